import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

pytest.importorskip("tvm")

import lwc
from lwc import backends
from lwc.backends.onnxruntime.build import OnnxRuntime
from lwc.backends.tvm import cut as cutting
from lwc.backends.tvm.build import CONTENTS
from lwc.backends.tvm.chain import Chain
from lwc.backends.tvm.cut import TOO_SMALL, cut
from lwc.backends.tvm.hybrid import Hybrid
from lwc.backends.tvm.session import TvmSession
from lwc.backends.tvm.specialized import Specialized, fixed
from lwc.compiler.core.backend import BuildOptions, Session
from lwc.compiler.core.model import Model
from lwc.compiler.core.target import host
from lwc.compiler.testing import DEEP_FP32, disagreement
from lwc.models import tiny

HERE = host()
HYBRID = Hybrid()
ORT = OnnxRuntime()
# Operators that TVM lacks, values whose types ONNX does not tell, strings, subgraphs, branches around what is refused.
NAMES = ("strings", "unknown_rank", "ml_scaler", "loop_while")
MIXED = """agraph (float[2,4] x) => (float[2,4] y, int64[2,k] where)
<float[4,4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}> {
    [front] a = MatMul (x, w)
    [odd] where = NonZero (a)
    [count] n = ReduceSum <keepdims = 0> (where)
    [float] f = Cast <to = 1> (n)
    [back] y = Add (a, f)
}"""


@pytest.fixture(autouse=True)
def crossings_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "LEAST_WORK_US", 0.0)
    monkeypatch.setattr("lwc.backends.tvm.hybrid.slower", lambda model, target: "")


def read(text: str) -> Model:
    return Model.from_proto(onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{text}'))


def refusing(*operators: str) -> Any:
    """What says that TVM cannot compile a part with one of these."""
    return lambda part: next((f"no {node.op_type}" for node in part.graph if node.op_type in operators), "")


def mixed() -> Model:
    return fixed(read(MIXED), ((2, 4),))


def opened(session: Session, *shapes: tuple[int, ...]) -> Session:
    assert isinstance(session, Specialized)
    return session.of(shapes)


def test_backend_is_found_by_name_but_is_no_choice_of_its_own() -> None:
    assert backends.get("hybrid").name == "hybrid"
    assert "hybrid" not in backends.available()
    assert backends.stand_in("tvm").name == "hybrid"  # type: ignore[union-attr]
    assert backends.stand_in("onnxruntime") is None


@pytest.mark.parametrize("name", NAMES)
def test_tiny_graph_gives_what_onnx_runtime_gives_from_memory_and_from_files(name: str, tmp_path: Path) -> None:
    model = Model(tiny.all_graphs()[name](), name)
    feeds = tiny.feeds(model.ir)
    expected = ORT.session(model, HERE).run(feeds)
    HYBRID.build(model, HERE, BuildOptions(tmp_path, shapes=[{name: array.shape for name, array in feeds.items()}]))
    for session in (HYBRID.session(model, HERE), HYBRID.load(tmp_path, HERE)):
        found = session.run(feeds)
        assert list(found) == list(expected)
        assert not disagreement(list(expected.values()), list(found.values()))


def test_what_cannot_be_compiled_is_found_and_cut_out() -> None:
    found = cut(mixed(), HERE, refusing("MatMul"))
    assert [part.taken for part in found.parts] == [False, True]
    assert found.refused["front"] == "no MatMul"
    assert "back" not in found.refused


def test_parts_hand_values_over_by_name() -> None:
    found = cut(mixed(), HERE, refusing("Add", "MatMul"))
    made = {value.name for part in found.parts for value in part.model.graph.outputs}
    taken = {value.name for part in found.parts for value in part.model.graph.inputs}
    assert taken <= made | {"x"}
    assert {"y", "where"} <= made


def test_a_model_that_tvm_takes_is_one_part() -> None:
    session = HYBRID.session(read("agraph (float[2] x) => (float[2] y) { y = Sin (x) }"), HERE)
    assert isinstance(opened(session, (2,)), TvmSession)


def test_a_region_that_does_too_little_goes_to_onnx_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "LEAST_WORK_US", 1e9)
    found = cut(mixed(), HERE, refusing("MatMul"))
    assert [part.taken for part in found.parts] == [False]
    assert found.refused["back"] == TOO_SMALL


def test_a_region_that_is_slower_goes_to_onnx_runtime_and_joins_what_is_there() -> None:
    has_add = lambda part: "slow" if any(node.op_type == "Add" for node in part.graph) else ""  # noqa: E731
    found = cut(mixed(), HERE, refusing("NonZero"), has_add)
    assert [part.taken for part in found.parts] == [True, False]
    assert found.refused["back"] == "slow"
    assert "front" not in found.refused


def test_all_regions_may_be_slower() -> None:
    found = cut(mixed(), HERE, refusing("NonZero"), lambda part: "slow")
    assert [part.taken for part in found.parts] == [False]


def test_nothing_that_compiles_leaves_all_to_onnx_runtime() -> None:
    found = cut(mixed(), HERE, lambda part: "broken")
    assert [part.taken for part in found.parts] == [False]
    assert set(found.refused.values()) >= {"broken"}


def test_two_culprits_are_both_found() -> None:
    found = cut(mixed(), HERE, refusing("MatMul", "Add"))
    assert {found.refused["front"], found.refused["back"]} == {"no MatMul", "no Add"}


def test_original_model_is_not_changed_by_the_cut() -> None:
    model = mixed()
    before = model.digest()
    cut(model, HERE, refusing("MatMul"))
    assert model.digest() == before


SEQUENCES = """agraph (seq(float[2]) s, float[2] x, float[2] z) => (seq(float[2]) all, float[2] y) {
    a = Sin (x)
    b = Add (a, z)
    all = SequenceInsert (s, b)
    first = Constant <value_int = 0> ()
    item = SequenceAt (s, first)
    y = Mul (item, b)
}"""
MADE = """agraph (float[4] x) => (seq(float[n]) parts) {
    y = Sin (x)
    size = Constant <value_int = 3> ()
    parts = SplitToSequence (y, size)
}"""


@pytest.mark.parametrize("text", [SEQUENCES, MADE])
def test_sequences_go_in_and_come_out(text: str, tmp_path: Path) -> None:
    arrays = {name: np.array(pair, np.float32) for name, pair in {"x": (1, 2), "z": (3, -4)}.items()}
    feeds: dict[str, Any] = {"s": [np.array([5, 6], np.float32)], **arrays}
    if text == MADE:
        feeds = {"x": np.arange(4, dtype=np.float32)}
    expected = ORT.session(read(text), HERE).run(feeds)
    shapes = {name: array.shape for name, array in feeds.items() if isinstance(array, np.ndarray)}
    HYBRID.build(read(text), HERE, BuildOptions(tmp_path, shapes=[shapes]))
    for session in (HYBRID.session(read(text), HERE), HYBRID.load(tmp_path, HERE)):
        found: dict[str, Any] = session.run(feeds)
        assert not disagreement(list(expected.values()), list(found.values()))
        for item in next(iter(found.values())):
            item += 1


def partly() -> onnx.ModelProto:
    """Elementwise operators, which TVM fuses, and one that it refuses between them."""
    steps = ["a0 = Abs (x)"]
    for k in range(12):
        steps.append(f"r{k} = Sqrt (a{k})\n m{k} = Mul (r{k}, x)\n p{k} = Abs (m{k})\n a{k + 1} = Add (p{k}, a0)")
    lines = "\n".join(steps)
    return onnx.parser.parse_model(f"""<ir_version: 8, opset_import: ["" : 17]>
    agraph (float[1, 128, 1024] x) => (float[1, 128, 1024] y, float[1] volume)
    <int64[2] start = {{0, 0}}, int64[2] end = {{2, 2}}, int64[2] axes = {{1, 2}}> {{
        {lines}
        corner = Slice (a12, start, end, axes)
        [odd] volume = Det (corner)
        y = Mul (a12, volume)
    }}""")


@pytest.mark.slow
def test_a_compiled_model_with_one_refused_operator_is_hybrid_and_verifies(tmp_path: Path) -> None:
    model, out = tmp_path / "partly.onnx", tmp_path / "out"
    onnx.save(partly(), model)
    artifact = lwc.compile(
        model, out, backend="tvm", precision="fp32", cache=tmp_path / "cache", best_effort=True, samples=2
    )
    assert artifact.manifest.backend == artifact.report.backend == "hybrid"
    parts = json.loads((out / CONTENTS).read_text())["variants"][0]["parts"]
    assert {name.endswith(".onnx") for name in parts} == {True, False}
    compared = lwc.verify(model, out, samples=2, layers=False)
    assert min(fidelity.sqnr_db for fidelity in compared.outputs.values()) > 80
    x = np.random.default_rng(1).standard_normal((1, 128, 1024)).astype(np.float32)
    expected, found = ORT.session(Model.open(model), HERE).run({"x": x}), lwc.load(out).run({"x": x})
    assert not disagreement(list(expected.values()), list(found.values()), DEEP_FP32)


def test_parts_of_both_kinds_are_stored_beside_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lwc.backends.tvm.hybrid.refusal", lambda model, target: refusing("MatMul")(model))
    HYBRID.build(read(MIXED), HERE, BuildOptions(tmp_path))
    parts = json.loads((tmp_path / CONTENTS).read_text())["variants"][0]["parts"]
    assert parts == ["model.0.onnx", "model"]
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    expected = ORT.session(read(MIXED), HERE).run({"x": x})
    session = HYBRID.load(tmp_path, HERE)
    assert isinstance(opened(session, (2, 4)), Chain)
    found = session.run({"x": x})
    assert not disagreement(list(expected.values()), list(found.values()))
    found["y"] += 1


@pytest.mark.parametrize("body", ["t = MatMul (x, w)", "p = Abs (x) s = Squeeze (p, second) t = MatMul (s, w)"])
def test_a_branch_that_its_sizes_rule_out_does_not_keep_the_other_from_running(body: str) -> None:
    model = fixed(read(f"""agraph (float[n,m] x, bool wide) => (float[a,b] y) <float[4,4] w = {{
        1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}}, int64[1] second = {{1}}> {{
        y = If (wide) <
            then_branch = wide_ () => (float[c,d] t) {{ {body} }},
            else_branch = narrow () => (float[e,f] u) {{ u = Neg (x) }}>
    }}"""), ((2, 3), ()))
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    found = HYBRID.session(model, HERE).run({"x": x, "wide": np.array(False)})
    np.testing.assert_array_equal(found["y"], -x)
