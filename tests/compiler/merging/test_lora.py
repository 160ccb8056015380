"""Adapters are folded where they belong, or refused by name."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import lwc
from lwc.compiler.core.errors import BadInput, UsageError
from lwc.compiler.merging.lora import NoPlace
from lwc.compiler.testing import run_onnxruntime

RNG = np.random.default_rng(0)
RANK, ALPHA = 2, 6.0
HEAD = "base_model.model."


def floats(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def save_adapter(folder: Path, tensors: dict[str, np.ndarray], **config: Any) -> Path:
    """In the format of safetensors, by hand."""
    folder.mkdir(exist_ok=True)
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in tensors.items():
        span = [len(data), len(data) + array.nbytes]
        header[HEAD + name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": span}  # type: ignore[dict-item]
        data += array.tobytes()
    text = json.dumps(header).encode()
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    settings = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, **config}
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    return folder


def factors(module: str, inputs: int = 8, outputs: int = 6) -> dict[str, np.ndarray]:
    return {f"{module}.lora_A.weight": floats(RANK, inputs), f"{module}.lora_B.weight": floats(outputs, RANK)}


def change(tensors: dict[str, np.ndarray], module: str) -> np.ndarray:
    found: np.ndarray = tensors[f"{module}.lora_B.weight"] @ tensors[f"{module}.lora_A.weight"]
    return found


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """y = table[ids] W0^T, W0 without a name of its own, and z = y W1 with one: as PyTorch writes them."""
    nodes = [
        helper.make_node("Gather", ["emb.weight", "ids"], ["x"], "/emb/Gather"),
        helper.make_node("MatMul", ["x", "onnx::MatMul_9"], ["y"], "/block/layers.0/query/MatMul"),
        helper.make_node("Gemm", ["y", "block.layers.1.query.weight", "block.layers.1.query.bias"], ["z"], transB=1),
    ]
    tensors = {"emb.weight": floats(10, 8), "onnx::MatMul_9": floats(8, 6), "block.layers.1.query.weight": floats(5, 6),
               "block.layers.1.query.bias": floats(5)}  # fmt: skip
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("ids", TensorProto.INT64, [3])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [3, 5])],
        [numpy_helper.from_array(tensor, name) for name, tensor in tensors.items()],
    )  # fmt: skip
    path = tmp_path / "base.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def weights(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def folded(base: Path, *adapters: Path, **settings: Any) -> dict[str, np.ndarray]:
    out = base.parent / "out.onnx"
    lwc.merge(base, out, lora=adapters, **settings)
    run_onnxruntime(onnx.load(out), {"ids": np.array([0, 3, 9])})
    return weights(out)


def test_a_weight_is_found_by_the_name_of_its_node(base: Path, tmp_path: Path) -> None:
    tensors = factors("block.layers.0.query")
    found = folded(base, save_adapter(tmp_path / "a", tensors), scale=0.5)
    expected = weights(base)["onnx::MatMul_9"] + 0.5 * ALPHA / RANK * change(tensors, "block.layers.0.query").T
    np.testing.assert_allclose(found["onnx::MatMul_9"], expected, rtol=1e-5, atol=1e-6)
    assert all(np.array_equal(found[name], weights(base)[name]) for name in found if name != "onnx::MatMul_9")


@pytest.mark.parametrize("prefix", ["", "model.", "wrapper.inner."])
def test_a_weight_is_found_by_its_own_name_inside_a_wrapper(base: Path, tmp_path: Path, prefix: str) -> None:
    module = f"{prefix}block.layers.1.query"
    tensors = factors(module, 6, 5)
    found = folded(base, save_adapter(tmp_path / "a", tensors, use_rslora=True))
    name = "block.layers.1.query.weight"
    expected = weights(base)[name] + ALPHA / RANK**0.5 * change(tensors, module)
    np.testing.assert_allclose(found[name], expected, rtol=1e-5, atol=1e-6)


def test_a_table_takes_its_adapter_by_rows(base: Path, tmp_path: Path) -> None:
    a, b = floats(RANK, 10), floats(8, RANK)
    adapter = save_adapter(tmp_path / "a", {"emb.lora_embedding_A": a, "emb.lora_embedding_B": b})
    expected = weights(base)["emb.weight"] + ALPHA / RANK * (b @ a).T
    np.testing.assert_allclose(folded(base, adapter)["emb.weight"], expected, rtol=1e-5, atol=1e-6)


def test_dora_keeps_the_length_of_every_output(base: Path, tmp_path: Path) -> None:
    module, lengths = "block.layers.1.query", np.arange(1.0, 6.0, dtype=np.float32)
    tensors = {**factors(module, 6, 5), f"{module}.lora_magnitude_vector": lengths}
    found = folded(base, save_adapter(tmp_path / "a", tensors, use_dora=True))["block.layers.1.query.weight"]
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), lengths, rtol=1e-5)


def test_patterns_name_alphas(base: Path, tmp_path: Path) -> None:
    module = "block.layers.1.query"
    tensors = factors(module, 6, 5)
    adapter = save_adapter(tmp_path / "a", tensors, alpha_pattern={r"layers\.1\.query": 20})
    expected = weights(base)["block.layers.1.query.weight"] + 10 * change(tensors, module)
    np.testing.assert_allclose(folded(base, adapter)["block.layers.1.query.weight"], expected, rtol=1e-5, atol=1e-5)


def test_two_adapters_add_up(base: Path, tmp_path: Path) -> None:
    module = "block.layers.0.query"
    one, two = factors(module), factors(module)
    found = folded(base, save_adapter(tmp_path / "a", one), save_adapter(tmp_path / "b", two))
    expected = weights(base)["onnx::MatMul_9"] + ALPHA / RANK * (change(one, module) + change(two, module)).T
    np.testing.assert_allclose(found["onnx::MatMul_9"], expected, rtol=1e-5, atol=1e-5)


def test_what_was_trained_whole_replaces_what_was_there(base: Path, tmp_path: Path) -> None:
    whole = {"block.layers.1.query.bias": floats(5), "block.layers.0.query.weight": floats(6, 8)}
    found = folded(base, save_adapter(tmp_path / "a", {**factors("block.layers.1.query", 6, 5), **whole}))
    np.testing.assert_array_equal(found["block.layers.1.query.bias"], whole["block.layers.1.query.bias"])
    np.testing.assert_array_equal(found["onnx::MatMul_9"], whole["block.layers.0.query.weight"].T)


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        (factors("block.layers.7.query"), "no weight of the graph is called so"),
        (factors("query"), "fit alike"),
        (factors("block.layers.0.query", 6, 6), r"has the shape \[8, 6\]"),
        (factors("emb"), "no weight of the graph is called so"),
        ({**factors("layers.0.query"), **factors("block.layers.0.query")}, "fits other modules as well"),
    ],
)
def test_what_has_no_place_is_refused_by_name(
    base: Path, tmp_path: Path, tensors: dict[str, np.ndarray], reason: str
) -> None:
    with pytest.raises(NoPlace, match=reason):
        folded(base, save_adapter(tmp_path / "a", tensors))
    assert not (tmp_path / "out.onnx").exists()


def test_partial_folds_the_rest(base: Path, tmp_path: Path) -> None:
    tensors = {**factors("block.layers.0.query"), **factors("block.layers.7.query")}
    found = lwc.merge(base, lora=[save_adapter(tmp_path / "a", tensors)], partial=True)
    assert [line.names for line in found.lines] == [("onnx::MatMul_9", "block.layers.0.query")]
    assert [one.tensor.name for one in found.missing] == ["block.layers.7.query"]


@pytest.mark.parametrize(
    ("config", "words"), [({"init_lora_weights": "pissa_niter_4"}, "pissa"), ({"peft_type": "IA3"}, "no LoRA adapter")]
)
def test_other_adapters_are_refused(base: Path, tmp_path: Path, config: dict[str, Any], words: str) -> None:
    with pytest.raises(BadInput, match=words):
        folded(base, save_adapter(tmp_path / "a", factors("block.layers.0.query"), **config))


def test_what_is_no_adapter_is_refused(base: Path, tmp_path: Path) -> None:
    adapter = save_adapter(tmp_path / "a", factors("block.layers.0.query"))
    with pytest.raises(UsageError, match="one model, not 2"):
        lwc.merge([base, base], lora=[adapter])
    with pytest.raises(UsageError, match=r"no file '.*missing.safetensors'"):
        lwc.merge(base, lora=[tmp_path / "missing.safetensors"])
    with pytest.raises(UsageError, match="knows no method"):
        lwc.merge(base, lora=[adapter], method="ties")
    (adapter / "adapter_model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{")
    with pytest.raises(BadInput, match="no safetensors file"):
        lwc.merge(base, lora=[adapter])
    (adapter / "adapter_config.json").unlink()
    with pytest.raises(UsageError, match="how the adapter is scaled"):
        lwc.merge(base, lora=[adapter])
