import numpy as np
import pytest

pytest.importorskip("tvm")

from lwc.backends.tvm.importer import import_model
from lwc.backends.tvm.lowering.testing import assert_agrees, model
from lwc.compiler.core.errors import UnsupportedOperator
from lwc.compiler.core.model import Model

RNG = np.random.default_rng(0)
BATCH, LENGTH, SIZE = 2, 5, 16  # of a head
POSITIONS = 8


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def grouped(attributes: str, heads: int, shared: int, *, rotates: bool = False, past: int | None = None) -> str:
    """Query, key and value of one prompt; seqlens_k is how many keys there are, less one."""
    kept = f"float[{BATCH}, {shared}, {past}, {SIZE}]"
    cache = "" if past is None else f", {kept} pk, {kept} pv"
    tables = f", float[{POSITIONS}, {SIZE // 2}] cos, float[{POSITIONS}, {SIZE // 2}] sin" if rotates else ""
    names = ["q", "k", "v", *(["pk", "pv"] if cache else ["", ""]), "lengths", "total"]
    names += ["cos", "sin"] if rotates else []
    return f"""agraph (float[{BATCH}, {LENGTH}, {heads * SIZE}] q, float[{BATCH}, {LENGTH}, {shared * SIZE}] k,
    float[{BATCH}, {LENGTH}, {shared * SIZE}] v{cache}{tables})
    => (float[{BATCH}, {LENGTH}, {heads * SIZE}] y, float[a, b, c, d] present_key, float[e, f, g, h] present_value)
    <int32[{BATCH}] lengths = {{{LENGTH - 1}, {LENGTH - 1}}}, int32 total = {{{LENGTH}}}> {{
        y, present_key, present_value = com.microsoft.GroupQueryAttention
            <num_heads = {heads}, kv_num_heads = {shared}{attributes}> ({", ".join(names)})
    }}"""


def prompt(heads: int, shared: int) -> dict[str, np.ndarray]:
    sizes = {"q": heads * SIZE, "k": shared * SIZE, "v": shared * SIZE}
    return {name: floats(BATCH, LENGTH, size) for name, size in sizes.items()}


@pytest.mark.parametrize(("heads", "shared"), [(4, 2), (3, 1), (2, 2)])
@pytest.mark.parametrize("attributes", ["", ", scale = 0.1", ", softcap = 2.0"])
def test_heads_of_a_group_share_keys_and_see_no_later_ones(heads: int, shared: int, attributes: str) -> None:
    assert_agrees(grouped(attributes, heads, shared), prompt(heads, shared))


@pytest.mark.parametrize("interleaved", [0, 1])
def test_queries_and_keys_are_rotated(interleaved: int) -> None:
    attributes = f", do_rotary = 1, rotary_interleaved = {interleaved}"
    angles = RNG.uniform(0, 3, (POSITIONS, SIZE // 2)).astype(np.float32)
    feeds = {**prompt(4, 2), "cos": np.cos(angles), "sin": np.sin(angles)}
    assert_agrees(grouped(attributes, 4, 2, rotates=True), feeds)


def test_a_cache_whose_fill_is_known_only_at_run_time_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="how much of its cache is filled"):
        import_model(Model.from_proto(model(grouped("", 4, 2, past=3))))


def test_a_window_is_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="it attends to a window"):
        import_model(Model.from_proto(model(grouped(", local_window_size = 2", 4, 2))))


def test_rotation_from_a_first_position() -> None:
    angles = RNG.uniform(0, 3, (POSITIONS, SIZE // 2)).astype(np.float32)
    text = f"""agraph (float[{BATCH}, 3, {LENGTH}, {SIZE}] x, float[{POSITIONS}, {SIZE // 2}] cos,
    float[{POSITIONS}, {SIZE // 2}] sin) => (float[{BATCH}, 3, {LENGTH}, {SIZE}] y) <int64[1] first = {{2}}> {{
        y = com.microsoft.RotaryEmbedding (x, first, cos, sin)
    }}"""
    assert_agrees(text, {"x": floats(BATCH, 3, LENGTH, SIZE), "cos": np.cos(angles), "sin": np.sin(angles)})
