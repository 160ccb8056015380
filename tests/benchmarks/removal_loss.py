"""What layers lose without 30 % of their input channels: by order of removal, and by what takes over.

    python tests/benchmarks/removal_loss.py [--images 32] [--share 0.3]

Layers of digits_cnn and digits_transformer with at least 8 input channels and no groups, each on its own. Moments of
calibration images, as a compile collects them; errors of other images, over the variance of the layer's outputs,
geometric mean over layers. First row: channels drawn at random. The others: FLAP's bias, and least squares, by order.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

from lwc.models import digits
from lwc.passes.solvers import saliency
from lwc.passes.solvers.elimination import by_score, eliminate, eliminate_refitted
from lwc.passes.solvers.moments import patch_mean
from lwc.passes.solvers.removal import COMPENSATIONS, refit
from lwc.passes.solvers.saliency import Reader

ORDERS: dict[str, Callable[[Reader], np.ndarray]] = {
    "magnitude": lambda r: by_score(saliency.magnitude([(r.weight.T, r.positions)])).channels,
    "wanda": lambda r: by_score(saliency.wanda([r])).channels,
    "fluctuation": lambda r: by_score(saliency.fluctuation([r])).channels,
    "error": lambda r: by_score(saliency.error([r])).channels,
    "merging": lambda r: by_score(saliency.merging([r])).channels,
    "explained": lambda r: by_score(saliency.explained([r])).channels,
    "eliminate": lambda r: eliminate([r]).channels,
    "eliminate_refitted": lambda r: eliminate_refitted([r]).channels,
}
ROWS, ROWS_PER_FEATURE = 16384, 8  # of a Gram matrix, as analysis.activations


@dataclass
class Layer:
    """weight: [out, in];  seen, unseen: inputs [n, in], of calibration and other images;  taps: columns of a channel"""

    weight: np.ndarray
    seen: np.ndarray
    unseen: np.ndarray
    taps: int

    @property
    def positions(self) -> np.ndarray:
        return np.arange(self.weight.shape[1]).reshape(-1, self.taps)

    def moments(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """E[x x^T] of some rows, and E[x] from the channels."""
        channels = self.seen[:, self.taps // 2 :: self.taps]
        some = rng.permutation(len(self.seen))[: max(ROWS, ROWS_PER_FEATURE * self.weight.shape[1])]
        gram = self.seen[some].T @ self.seen[some] / len(some)
        return gram, patch_mean(gram, channels.mean(axis=0), np.square(channels).mean(axis=0))

    def error(self, kept: np.ndarray, left: np.ndarray, shift: np.ndarray) -> float:
        exact = self.unseen @ self.weight.T
        found = self.unseen[:, kept] @ left.T + shift
        return float(np.square(exact - found).sum() / np.square(exact - exact.mean(axis=0)).sum())


def layers(kind: digits.Kind, images: int) -> Iterator[Layer]:
    proto = onnx.load(digits.path(kind))
    constants = {value.name: numpy_helper.to_array(value) for value in proto.graph.initializer}
    nodes = [
        node for node in proto.graph.node
        if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in constants
    ]  # fmt: skip
    names = sorted({node.input[0] for node in nodes} - {"x"})
    proto.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(0)
    values = []
    for split, count in (("calibration", images), ("test", 100)):
        pixels = digits.arrays(split)[0]
        feeds = {"x": pixels[rng.permutation(len(pixels))[:count]]}
        values.append({**feeds, **dict(zip(names, session.run(names, feeds), strict=True))})
    for node in nodes:
        attributes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        weight = constants[node.input[1]].astype(np.float64)
        taps = int(np.prod(weight.shape[2:]))
        if attributes.get("group", 1) > 1:
            continue
        seen, unseen = (rows_of(each[node.input[0]], weight.shape[2:], attributes) for each in values)
        matrix = weight.reshape(len(weight), -1) if weight.ndim > 2 or attributes.get("transB") else weight.T
        if matrix.shape[1] >= 8 * taps:
            yield Layer(matrix, seen, unseen, taps)


def rows_of(value: np.ndarray, kernel: tuple[int, ...], attributes: dict) -> np.ndarray:
    """[n, in] that the weight sees."""
    if not kernel:
        return value.reshape(-1, value.shape[-1]).astype(np.float64)
    top, left, bottom, right = attributes.get("pads", [0] * 4)
    down, across = attributes.get("strides", [1, 1])
    padded = np.pad(value, ((0, 0), (0, 0), (top, bottom), (left, right)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(2, 3))[:, :, ::down, ::across]
    return patches.transpose(0, 2, 3, 1, 4, 5).reshape(-1, value.shape[1] * int(np.prod(kernel))).astype(np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--share", type=float, default=0.3)
    args = parser.parse_args()
    found: dict[tuple[str, str], list[float]] = {}
    count = 0
    for layer in (layer for kind in ("cnn", "transformer") for layer in layers(kind, args.images)):
        rng = np.random.default_rng(0)
        gram, mean = layer.moments(rng)
        reader = Reader.of(layer.weight, layer.positions, gram, mean)
        drop = round(args.share * len(layer.positions))
        orders = {"random": rng.permutation(len(layer.positions))}
        orders |= {name: order(reader) for name, order in ORDERS.items()}
        for name, order in orders.items():
            kept = np.ones(len(gram), bool)
            kept[layer.positions[order[:drop]]] = False
            for method in COMPENSATIONS if name == "random" else ("bias", "least-squares"):
                error = layer.error(kept, *refit(layer.weight, gram, mean, kept, method))
                found.setdefault((name, method), []).append(error)
        count += 1
    print(f"{count} layers\n\n| channels | {' | '.join(COMPENSATIONS)} |\n|{'---|' * (1 + len(COMPENSATIONS))}")
    for name in ("random", *ORDERS):
        errors = [found.get((name, method)) for method in COMPENSATIONS]
        cells = ["" if each is None else f"{np.exp(np.mean(np.log(each))):.4f}" for each in errors]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
