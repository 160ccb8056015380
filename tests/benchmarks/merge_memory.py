"""Four models of 500 MB into one: peak memory and time, beside mergekit on the same tensors.

    pip install --no-deps mergekit immutables peft accelerate    # beside torch, pydantic, transformers
    python tests/benchmarks/merge_memory.py FOLDER --prepare    # writes 4 GB: ONNX, and safetensors of the same
    python tests/benchmarks/merge_memory.py FOLDER [--methods linear,ties]

BERT shaped, 123 M random weights in float32. Each merge is a process of its own: `lwc merge` from and to ONNX files,
and `mergekit-pytorch` from and to safetensors, as their users start them. The files are in the system's cache for both.
With a base, the first model is it: four files are read either way. Peaks are resident memory, mapped pages included.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import onnx
from onnx import TensorProto, numpy_helper

from lwc.models.structures import bert

MODELS = 4
BASED = ("ties", "dare", "task-arithmetic", "model-stock")
PEERS = {"linear": "linear", "ties": "ties", "dare": "dare_linear", "task-arithmetic": "task_arithmetic",
         "model-stock": "model_stock"}  # fmt: skip
DENSITY = 0.2


def prepare(folder: Path, k: int) -> None:
    """Model number k, in both formats."""
    from safetensors.numpy import save_file

    proto = bert(layers=14, hidden=768, heads=12, seed=k)
    onnx.save(proto, folder / f"{k}.onnx")
    floats = [tensor for tensor in proto.graph.initializer if tensor.data_type == TensorProto.FLOAT]
    save_file({tensor.name: numpy_helper.to_array(tensor) for tensor in floats}, folder / f"{k}.safetensors")


def of_lwc(folder: Path, method: str) -> list[str]:
    """The command that merges with lwc."""
    files = [str(folder / f"{k}.onnx") for k in range(MODELS)]
    command = [sys.executable, "-m", "lwc", "merge", "--method", method, "-q", "-o", str(folder / "out.onnx"), "--json"]
    if method in ("ties", "dare"):
        command += ["--density", str(DENSITY)]
    return [*command, *(["--base", files[0], *files[1:]] if method in BASED else files)]


def of_mergekit(folder: Path, method: str) -> list[str]:
    """The command that merges with mergekit; its recipe is written."""
    files = [str(folder / f"{k}.safetensors") for k in range(MODELS)]
    taken = files[1:] if method in BASED else files
    own = {"weight": 1.0, "density": DENSITY} if method in ("ties", "dare") else {"weight": 1.0}
    recipe = {"merge_method": PEERS[method], "models": [{"model": file, "parameters": own} for file in taken]}
    if method == "model-stock":
        recipe["models"] = [{"model": file} for file in taken]
    if method in BASED:
        recipe["base_model"] = files[0]
    (folder / "recipe.yaml").write_text(json.dumps(recipe), encoding="utf-8")  # JSON is YAML
    script = [sys.executable, "-m", "mergekit.scripts.merge_raw_pytorch"]
    return [*script, str(folder / "recipe.yaml"), str(folder / "peer")]


def measure(command: list[str]) -> tuple[float, float]:
    """Seconds, and peak resident MB."""
    start = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        assert child.stderr is not None
        said = child.stderr.read()
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise SystemExit(said.decode())
    return time.perf_counter() - start, usage.ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prepare", action="store_true", help="write the models")
    parser.add_argument("--one", type=int, help="write this model alone")
    parser.add_argument("--methods", default="linear,ties")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--no-peer", action="store_true", help="lwc alone")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.one is not None:
        prepare(options.folder, options.one)
        return
    if options.prepare:
        for k in range(MODELS):
            subprocess.run([sys.executable, __file__, str(options.folder), "--one", str(k)], check=True)
        return
    for method in options.methods.split(","):
        runs = {"lwc": of_lwc} if options.no_peer else {"lwc": of_lwc, "mergekit": of_mergekit}
        for _ in range(options.rounds):
            for name, command in runs.items():
                seconds, peak = measure(command(options.folder, method))
                print(f"{method:16} {name:9} {seconds:6.1f} s  peak {peak:6.0f} MB", flush=True)


if __name__ == "__main__":
    main()
