"""NNCF int8, and OpenVINO's own fp32 and bf16, in an environment of their own; started by run.py."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

from exchange import JOB, Run, Variant, work
from openvino_int8 import nncf_int8, open_run

Samples = list


def as_it_is(model: Path, calibration: Samples, folder: Path) -> Path:
    return model


def quantized(model: Path, calibration: Samples, folder: Path) -> Path:
    return nncf_int8(model, folder / "nncf.xml", calibration)


def opened(precision: str, file: Path, samples: Samples, threads: int) -> Run:
    job = json.loads((Path(sys.argv[1]) / JOB).read_text())
    return open_run(file, Path(job["model"]), samples, precision, threads)


if __name__ == "__main__":
    work(
        [
            Variant("openvino-fp32", as_it_is, partial(opened, "f32")),
            Variant("openvino-bf16", as_it_is, partial(opened, "bf16")),
            Variant("nncf-int8", quantized, partial(opened, "f32")),
            Variant("nncf-int8-bf16", quantized, partial(opened, "bf16")),
        ]
    )
