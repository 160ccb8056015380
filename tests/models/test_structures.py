"""Architectures with random weights: right size, right form, sane values."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from lwc.models import structures

Feeds = dict[str, NDArray[np.generic]]


def _run(model: onnx.ModelProto, feeds: Feeds) -> list[NDArray[np.float32]]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(output) for output in session.run(None, feeds)]


def _image(size: int, seed: int, batch: int = 1) -> Feeds:
    return {"x": np.random.default_rng(seed).standard_normal((batch, 3, size, size), dtype=np.float32)}


def _tokens(batch: int, tokens: int, vocab: int, seed: int) -> Feeds:
    ids = np.random.default_rng(seed).integers(0, vocab, (batch, tokens))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def _weights(model: onnx.ModelProto) -> int:
    return sum(int(np.prod(weight.dims)) for weight in model.graph.initializer)


def _operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


IMAGE_NETS = pytest.mark.parametrize(
    "build", [structures.resnet18, structures.resnet50, structures.mobilenet_v2], ids=lambda build: build.__name__
)


@pytest.mark.parametrize(
    ("build", "parameters"),
    # torchvision's counts without the weights that fold into others (BatchNorm's 2 per channel become 1)
    [(structures.resnet18, 11_684_712), (structures.resnet50, 25_530_472), (structures.mobilenet_v2, 3_487_816)],
)
def test_has_the_parameters_of_the_published_network(build: Callable[[], onnx.ModelProto], parameters: int) -> None:
    assert _weights(build()) == parameters


@IMAGE_NETS
def test_folded_and_unfolded_batchnorm_compute_the_same(build: Callable[..., onnx.ModelProto]) -> None:
    folded, plain = build(size=64), build(size=64, fold=False)
    assert "BatchNormalization" not in _operators(folded)
    assert _operators(plain)["BatchNormalization"] == _operators(plain)["Conv"]
    np.testing.assert_allclose(_run(folded, _image(64, 0))[0], _run(plain, _image(64, 0))[0], rtol=1e-3, atol=1e-3)


@IMAGE_NETS
def test_logits_are_spread_and_depend_on_the_image(build: Callable[..., onnx.ModelProto]) -> None:
    model = build(size=64)
    first, second = (_run(model, _image(64, seed))[0] for seed in (0, 1))
    assert first.shape == (1, 1000)
    assert 1 < first.std() < 30
    assert np.abs(first - second).max() > 0.1


@IMAGE_NETS
def test_the_seed_decides_the_weights(build: Callable[..., onnx.ModelProto]) -> None:
    first = build(size=32, seed=1).SerializeToString()
    assert first == build(size=32, seed=1).SerializeToString()
    assert first != build(size=32, seed=2).SerializeToString()


def test_a_named_batch_is_dynamic() -> None:
    model = structures.resnet18(batch="N", size=32, classes=10)
    assert _run(model, _image(32, 0, batch=3))[0].shape == (3, 10)


def test_bert_gives_sane_states_and_listens_to_its_tokens() -> None:
    model = structures.bert(layers=2, hidden=64, heads=4, tokens=16, vocab=100)
    first, second = (_run(model, _tokens(1, 16, 100, seed)) for seed in (0, 1))
    assert first[0].shape == (1, 16, 64)
    assert first[1].shape == (1, 64)
    assert 0.5 < first[0].std() < 2
    assert np.abs(first[1] - second[1]).max() > 0.1


def test_bert_ignores_masked_tokens() -> None:
    model = structures.bert(layers=1, hidden=64, heads=4, tokens=16, vocab=100)
    feeds = _tokens(1, 16, 100, 0)
    feeds["attention_mask"][:, 8:] = 0
    changed = {**feeds, "input_ids": feeds["input_ids"].copy()}
    changed["input_ids"][:, 8:] = 3
    np.testing.assert_array_equal(_run(model, feeds)[0][:, :8], _run(model, changed)[0][:, :8])


def test_dynamic_bert_computes_what_the_static_one_does() -> None:
    sizes = {"layers": 1, "hidden": 64, "heads": 4, "vocab": 100}
    static = structures.bert(tokens=12, batch=2, **sizes)
    dynamic = structures.bert(tokens="T", batch="N", **sizes)
    assert "Shape" in _operators(dynamic)
    assert "Shape" not in _operators(static)
    feeds = _tokens(2, 12, 100, 0)
    for left, right in zip(_run(static, feeds), _run(dynamic, feeds), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("nodes", [1, 2, 22, 500, 10_000])
def test_chain_has_exactly_the_nodes_asked_for(nodes: int) -> None:
    model = structures.chain(nodes)
    assert len(model.graph.node) == nodes
    assert len({node.name for node in model.graph.node}) == nodes


def test_a_long_chain_neither_grows_nor_fades() -> None:
    x = np.random.default_rng(0).standard_normal((1, 8, 8, 8), dtype=np.float32)
    y = _run(structures.chain(2_101), {"x": x})[0]
    # the links permute and rescale relu(x) by factors of 0.5 to 2
    ratio = np.sort(y.max(axis=(0, 2, 3))) / np.sort(np.maximum(x, 0).max(axis=(0, 2, 3)))
    assert ratio.min() > 0.4
    assert ratio.max() < 2.5


SMALL_DECODER = {"layers": 2, "width": 64, "heads": 4, "vocab": 100, "tokens": 16}


def test_decoder_keeps_its_weights_in_a_file_beside_it(tmp_path: Path) -> None:
    path = structures.decoder(tmp_path / "small.onnx", **SMALL_DECODER)
    model = onnx.load(path, load_external_data=False)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    matrices = [name for name, tensor in stored.items() if len(tensor.dims) == 2]
    assert len(matrices) == 4 * 2 + 4
    assert all(stored[name].data_location == onnx.TensorProto.EXTERNAL for name in matrices)
    assert path.stat().st_size < (tmp_path / "small.onnx.data").stat().st_size / 4


def test_decoder_has_the_parameters_its_description_counts(tmp_path: Path) -> None:
    model = onnx.load(structures.decoder(tmp_path / "small.onnx", **SMALL_DECODER))
    mask = 16 * 16
    assert _weights(model) - mask == (12 * 64 + 13) * 64 * 2 + (2 * 100 + 16 + 2) * 64


def test_decoder_sees_no_later_token_and_every_earlier_one(tmp_path: Path) -> None:
    model = onnx.load(structures.decoder(tmp_path / "small.onnx", **SMALL_DECODER))
    tokens = np.random.default_rng(0).integers(0, 100, (2, 16))
    changed = tokens.copy()
    changed[:, 8] = (changed[:, 8] + 1) % 100
    first, second = (_run(model, {"tokens": given})[0] for given in (tokens, changed))
    assert first.shape == (2, 16, 100)
    np.testing.assert_array_equal(first[:, :8], second[:, :8])
    assert np.abs(first[:, 8:] - second[:, 8:]).max(axis=(0, 2)).min() > 1e-3


def test_decoder_is_the_same_for_a_seed(tmp_path: Path) -> None:
    written = [
        (structures.decoder(tmp_path / f"{index}" / "x.onnx", **SMALL_DECODER, seed=seed).parent / "x.onnx.data")
        for index, seed in enumerate((1, 1, 2))
    ]
    first, again, other = (file.read_bytes() for file in written)
    assert first == again
    assert first != other


def test_decoder_holds_one_weight_in_memory_at_a_time(tmp_path: Path) -> None:
    sizes = {"layers": 6, "width": 256, "heads": 4, "vocab": 256, "tokens": 16}
    tracemalloc.start()
    path = structures.decoder(tmp_path / "deep.onnx", **sizes)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    largest = 4 * 256 * 4 * 256
    assert path.with_name("deep.onnx.data").stat().st_size > 15 * largest
    assert peak < 4 * largest
