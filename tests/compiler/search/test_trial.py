import os
import signal

import numpy as np
import onnx.parser

from lwc import backends
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import host
from lwc.compiler.search.trial import Trials

SQUARE = """<ir_version: 8, opset_import: ["" : 17]> g (float[N] x) => (float[N] y) { y = Mul(x, x) }"""
FEEDS = {"x": np.ones(3, np.float32)}


def test_a_model_that_ends_its_process_is_refused_and_the_next_one_is_tried_again() -> None:
    model = Model.from_proto(onnx.parser.parse_model(SQUARE), "square")
    trials = Trials(backends.get("onnxruntime"), host().with_threads(1))
    try:
        assert trials.refusal(model, FEEDS) == ""
        pool = trials._pool
        assert pool is not None
        (worker,) = pool._processes
        os.kill(worker, signal.SIGKILL)
        pool._processes[worker].join()
        assert "crashed" in trials.refusal(model, FEEDS)
        assert trials.refusal(model, FEEDS) == ""
    finally:
        trials.close()


def test_what_the_runtime_says_is_the_reason() -> None:
    model = Model.from_proto(onnx.parser.parse_model(SQUARE), "square")
    trials = Trials(backends.get("onnxruntime"), host().with_threads(1))
    try:
        assert "float64" in trials.refusal(model, {"x": np.ones(3)})
    finally:
        trials.close()
