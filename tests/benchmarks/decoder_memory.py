"""Peak memory of compiling a large decoder to four bits, as a user does it.

    python tests/benchmarks/decoder_memory.py [--layers N] [--width N] [--samples N] [--max-drop D] [--folder PATH]

Builds a decoder with random weights and external data (498.7 M parameters, 2.0 GB by default), compiles it with
`lwc compile decoder.onnx --precision w4 --objective size --backend ort`, and prints the size of its files, the peak
resident memory of the compile process, their ratio (at most 1.5 wanted), the largest process that it started (which
measures the memory of a model that runs alone), the size of what came out, and seconds.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from pathlib import Path

from command import compiled

from lwc.models.structures import decoder

WANTED = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--samples", type=int, default=8)
    parser.add_argument("--max-drop", type=float, default=0.5, help="random weights have no clear winners")
    parser.add_argument("--folder", type=Path, help="where to build; a temporary folder otherwise")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        path = decoder(folder / "decoder.onnx", layers=options.layers, width=options.width, heads=options.width // 64)
        size = sum(file.stat().st_size for file in folder.glob("decoder.onnx*"))
        print(f"decoder: {size / 1e6:.0f} MB", flush=True)
        report = compiled(
            path, path.with_suffix(".lwc"), "--precision", "w4", "--objective", "size", "--samples", options.samples,
            "--max-drop", options.max_drop, "--best-effort",
        )  # fmt: skip
    peak = report["peak_compile_memory_mb"] * 1e6
    child = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(f"peak of the compile {peak / 1e6:.0f} MB, {peak / size:.2f}x the files (at most {WANTED} wanted),", end=" ")
    print(f"of any process of it {child / 1e6:.0f} MB")
    held = report["accuracy"]
    made = report["size"]
    print(f"compiled: {made['compiled_bytes'] / 1e6:.0f} MB, {made['ratio']:.2f}x smaller,", end=" ")
    print(f"{held['metric']} {held['original']:.3f} -> {held['compiled']:.3f}")
    kept = sum(site["choice"] == "w4" for site in report["sites"])
    print(f"{kept} of {len(report['sites'])} layers in four bits, {report['timings_s']['total']:.0f} s:", end=" ")
    print(", ".join(f"{stage} {seconds:.0f}" for stage, seconds in report["timings_s"].items()))


if __name__ == "__main__":
    main()
