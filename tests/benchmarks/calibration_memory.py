"""Peak memory of the statistics pass, each case in a process of its own.

    python tests/benchmarks/calibration_memory.py [--quick]

Prints peak resident memory, seconds per sample, and the ratio of 512 samples to 16 on a ResNet-50 shaped model at
224x224, and the peak on the PP-OCRv4 detector with 48 samples of 640x640 (fetched from its package). Both collect
every activation of the model. onnxruntime's entropy calibrator passed 24 GB on the second and was killed. Last, the
peak of a whole `lwc compile` of that detector with those samples.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from command import compiled

from lwc import backends
from lwc.compiler.analysis.activations import collect
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Site
from lwc.compiler.core.target import find_target
from lwc.compiler.data import synthesize
from lwc.models import zoo
from lwc.models.structures import resnet50

MAX_MEMORY_BYTES = 500_000_000
SIDE = 640


def measure(name: str, count: int) -> dict[str, float]:
    """Collect statistics of every activation; what it took."""
    target = find_target("host")
    backend = backends.get("onnxruntime")
    if name == "resnet50":
        model, shapes = Model.from_proto(resnet50(), name), {}
    else:
        model, shapes = Model.open(zoo.path(name)), {"x": (1, 3, SIDE, SIDE)}
    session = backend.session(model, target)
    calibration = synthesize(session.inputs, model, count, 0, shapes)
    feeds = next(calibration.feeds())
    session.run(feeds)
    start = time.perf_counter()
    for _ in range(5):
        session.run(feeds)
    run_ms = (time.perf_counter() - start) * 200
    del session
    sites = [Site(node.name or "", node.op_type) for node in model.graph]
    start = time.perf_counter()
    stats = collect(
        model,
        sites,
        calibration,
        lambda m, names: backend.session(m, target, names, lean=True),
        max_memory_bytes=MAX_MEMORY_BYTES,
    )
    seconds = time.perf_counter() - start
    values = {id(s): s.count for layer in stats.values() for s in (*layer.inputs, *layer.outputs) if s is not None}
    return {
        "samples": count,
        "activations": len(values),
        "values_per_sample": sum(values.values()) / count,
        "run_ms": run_ms,
        "collect_ms_per_sample": 1e3 * seconds / count,
        "seconds": seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_child(name: str, count: int) -> dict[str, float]:
    """`measure` in a fresh process, printed as one line."""
    command = [sys.executable, str(Path(__file__).resolve()), "--child", name, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"{name}, {count} samples: {found['activations']:.0f} activations", end=" ")
    print(f"of {found['values_per_sample'] / 1e6:.1f} M values, peak {found['peak_mb']:.0f} MB,", end=" ")
    print(f"{found['seconds']:.1f} s = {found['collect_ms_per_sample']:.0f} ms a sample,", end=" ")
    print(f"one run alone takes {found['run_ms']:.0f} ms", flush=True)
    return found


def whole_compile(count: int) -> None:
    """`lwc compile` of the detector on ONNX Runtime, from nothing; its own report's figures."""
    with tempfile.TemporaryDirectory() as folder:
        shape = f"x=1,3,{SIDE},{SIDE}"
        report = compiled(zoo.path("ppocr-v4-det"), Path(folder) / "det.lwc", "--shape", shape, "--samples", count)
    print(f"lwc compile, {count} samples: peak {report['peak_compile_memory_mb']:.0f} MB,", end=" ")
    print(f"{report['timings_s']['total']:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="128 samples instead of 512")
    parser.add_argument("--child", nargs=2, metavar=("MODEL", "SAMPLES"))
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child[0], int(options.child[1]))))
        return
    many = 128 if options.quick else 512
    small, large = in_child("resnet50", 16), in_child("resnet50", many)
    ratio = large["peak_mb"] / small["peak_mb"]
    print(f"resnet50: peak with {many} samples is {ratio:.3f} of that with 16 (at most 1.1 wanted)")
    detector = in_child("ppocr-v4-det", 48)
    print(f"ppocr-v4-det: peak {detector['peak_mb']:.0f} MB (less than 1500 MB wanted)")
    whole_compile(48)


if __name__ == "__main__":
    main()
