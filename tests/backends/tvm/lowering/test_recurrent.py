import numpy as np
import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm.lowering.testing import assert_agrees

STEPS, BATCH, SIZE, HIDDEN = 4, 2, 3, 5


CELLS = [("LSTM", 4, ""), ("GRU", 3, "linear_before_reset = 1, "), ("RNN", 1, "")]


@pytest.mark.parametrize(("op", "gates", "extra"), CELLS)
def test_both_directions_stop_where_each_sequence_ends(op: str, gates: int, extra: str) -> None:
    rng = np.random.default_rng(0)
    feeds = {
        "x": rng.standard_normal((STEPS, BATCH, SIZE)).astype(np.float32),
        "w": rng.standard_normal((2, gates * HIDDEN, SIZE)).astype(np.float32),
        "r": rng.standard_normal((2, gates * HIDDEN, HIDDEN)).astype(np.float32),
        "b": rng.standard_normal((2, 2 * gates * HIDDEN)).astype(np.float32),
        "n": np.array([4, 2], np.int32),
        "h": rng.standard_normal((2, BATCH, HIDDEN)).astype(np.float32),
    }
    kinds = {"n": "int32"}
    types = ", ".join(f"{kinds.get(k, 'float')}[{', '.join(map(str, v.shape))}] {k}" for k, v in feeds.items())
    text = f"""agraph ({types}) => (float[4, 2, 2, 5] y, float[2, 2, 5] last) {{
        y, last = {op} <{extra}hidden_size = {HIDDEN}, direction = "bidirectional"> (x, w, r, b, n, h)
    }}"""
    assert_agrees(text, feeds)


@pytest.mark.parametrize("options", ["clip = 0.7, ", ""])
def test_lstm_with_peepholes_and_other_activations(options: str) -> None:
    rng = np.random.default_rng(1)
    shapes = {"x": (3, 2, 3), "w": (1, 20, 3), "r": (1, 20, 5), "b": (1, 40)}
    shapes |= {"h": (1, 2, 5), "c": (1, 2, 5), "p": (1, 15)}
    feeds = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
    types = ", ".join(f"float[{', '.join(map(str, shape))}] {name}" for name, shape in shapes.items())
    text = f"""agraph ({types}) => (float[3, 1, 2, 5] y, float[1, 2, 5] last, float[1, 2, 5] cell) {{
        y, last, cell = LSTM <hidden_size = 5, {options}direction = "reverse", activation_alpha = [0.3, 0.2],
            activation_beta = [0.4], activations = ["HardSigmoid", "LeakyRelu", "Tanh"]> (x, w, r, b, , h, c, p)
    }}"""
    assert_agrees(text, feeds)
