from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("tvm")

from tvm import tirx

from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.lowering.testing import answers, assert_agrees
from lwc.backends.tvm.schedules.recurrence import Recurrence
from lwc.backends.tvm.schedules.recurrent import RECURRENCE
from lwc.compiler.core.model import Model
from lwc.compiler.testing import disagreement, run_onnxruntime

STEPS, BATCH, SIZE = 4, 2, 3
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
# Operator, options: each has a kernel of its own.
CELLS = [("LSTM", ""), ("GRU", "linear_before_reset = 1, "), ("GRU", ""), ("RNN", "")]


def feeds_of(op: str, hidden: int, directions: int = 2, *names: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights, and of the optional inputs those that are named."""
    rng, gates = np.random.default_rng(seed), GATES[op] * hidden
    shapes = {"x": (STEPS, BATCH, SIZE), "w": (directions, gates, SIZE), "r": (directions, gates, hidden)}
    shapes["b"] = (directions, 2 * gates)
    shapes |= dict.fromkeys(("h", "c"), (directions, BATCH, hidden)) | {"p": (directions, 3 * hidden)}
    found = {name: (0.5 * rng.standard_normal(shape)).astype(np.float32) for name, shape in shapes.items()}
    found["n"] = np.array([4, 2], np.int32)
    return {name: found[name] for name in ("x", "w", "r", *names)}


def text_of(op: str, feeds: dict[str, np.ndarray], options: str) -> str:
    """All outputs of one node, the inputs in ONNX's order."""
    kinds = {"n": "int32"}
    types = ", ".join(f"{kinds.get(k, 'float')}[{', '.join(map(str, v.shape))}] {k}" for k, v in feeds.items())
    outputs = ["y", "last", "cell"][: 3 if op == "LSTM" else 2]
    given = [name if name in feeds else "" for name in ("x", "w", "r", "b", "n", "h", "c", "p")]
    declared = ", ".join(f"float[{', '.join('abcd'[: 4 if name == 'y' else 3])}] {name}" for name in outputs)
    return f"""agraph ({types}) => ({declared}) {{
        {", ".join(outputs)} = {op} <{options}hidden_size = {feeds["r"].shape[2]}> ({", ".join(given).rstrip(", ")})
    }}"""


@pytest.mark.parametrize(("op", "options"), CELLS)
def test_both_directions_stop_where_each_sequence_ends(op: str, options: str) -> None:
    feeds = feeds_of(op, 5, 2, "b", "n", "h")
    assert_agrees(text_of(op, feeds, f'{options}direction = "bidirectional", '), feeds)


@pytest.mark.parametrize(("op", "options"), CELLS)
def test_units_fill_blocks_and_part_of_another(op: str, options: str) -> None:
    feeds = feeds_of(op, 35, 1, "b")
    assert_agrees(text_of(op, feeds, options), feeds)


@pytest.mark.parametrize("op", GATES)
def test_weights_and_start_are_all_that_is_needed(op: str) -> None:
    feeds = feeds_of(op, 32, 1, "h")
    assert_agrees(text_of(op, feeds, 'direction = "reverse", '), feeds)


@pytest.mark.parametrize("options", ["clip = 0.7, ", "input_forget = 1, ", ""])
def test_lstm_with_peepholes_and_other_activations(options: str) -> None:
    feeds = feeds_of("LSTM", 5, 1, "b", "h", "c", "p", seed=1)
    chosen = """direction = "reverse", activation_alpha = [0.3, 0.2], activation_beta = [0.4],
        activations = ["HardSigmoid", "LeakyRelu", "Tanh"], """
    assert_agrees(text_of("LSTM", feeds, options + chosen), feeds)


def test_directions_have_functions_of_their_own() -> None:
    feeds = feeds_of("GRU", 20, 2, "b")
    chosen = 'direction = "bidirectional", activations = ["Sigmoid", "Tanh", "HardSigmoid", "Softsign"], '
    assert_agrees(text_of("GRU", feeds, chosen), feeds)


@pytest.mark.parametrize(
    "name", ["Affine", "Elu", "HardSigmoid", "LeakyRelu", "Relu", "ScaledTanh", "Sigmoid", "Softplus", "Softsign",
             "Tanh", "ThresholdedRelu"]
)  # fmt: skip
def test_rnn_with_every_function(name: str) -> None:
    feeds = feeds_of("RNN", 6, 1, "b")
    chosen = f'activations = ["{name}"], activation_alpha = [0.7], activation_beta = [0.3], '
    assert_agrees(text_of("RNN", feeds, chosen), feeds)


def test_batch_comes_first_where_the_layout_says_so() -> None:
    """ONNX Runtime refuses this layout."""
    feeds = feeds_of("GRU", 5, 1, "b", "h")
    turned = feeds | {name: feeds[name].swapaxes(0, 1).copy() for name in ("x", "h")}
    want = run_onnxruntime(_proto("GRU", feeds, ""), feeds)
    got = answers(_proto("GRU", turned, "layout = 1, "), turned)
    for expected, found, axes in zip(want, got, [(2, 0, 1, 3), (1, 0, 2)], strict=True):
        reason = disagreement(expected.transpose(axes), found)
        assert not reason, reason


def test_time_is_a_loop_and_not_written_out() -> None:
    short, long = (_functions(steps) for steps in (2, 200))
    assert len(short) == len(long)
    (func,) = [func for func in long if func.attrs and RECURRENCE in func.attrs]
    assert Recurrence.parse(str(func.attrs[RECURRENCE])).steps == 200


def _functions(steps: int) -> list[tirx.PrimFunc]:
    feeds = feeds_of("LSTM", 5, 2, "b")
    feeds["x"] = np.zeros((steps, BATCH, SIZE), np.float32)
    module = import_model(Model.from_proto(_proto("LSTM", feeds, 'direction = "bidirectional", ')))
    return [func for _, func in module.functions_items() if isinstance(func, tirx.PrimFunc)]


def _proto(op: str, feeds: dict[str, np.ndarray], options: str) -> Any:
    header = '<ir_version: 8, opset_import: ["" : 17]>\n'
    return onnx.parser.parse_model(header + text_of(op, feeds, options))
