"""Scales and shifts per channel that the next layer takes back: the same function in float, less lost in integers.

    x' = (x - z) / s        W' = W diag(s)        b' = b + W z        so that  W' x' + b' = W x + b

x [in] is a layer's input, W [out, in] its weight, s > 0 and z per input channel. The division goes into whatever makes
x: the rows of the weight before it, or gamma and beta of a normalization. Methods differ in how they choose s and z.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lwc.passes.solvers.grid import Grid, layer_loss
from lwc.passes.solvers.rounding import dequantize, quantize_per_channel

Floats = NDArray[np.float64]
Array = NDArray[np.floating]

LEVELS = 256
ALPHAS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
EXPONENTS = tuple(k / 20 for k in range(20))
# Thresholds that outlier suppression tries, as shares of the largest channel.
SHARES = tuple(2.0 ** (-k / 2) for k in range(13))


@dataclass(frozen=True)
class Smoothing:
    """x' = (x - shift) / scale.  scale, shift: [in];  scale > 0"""

    scale: Floats
    shift: Floats

    def does_something(self) -> bool:
        return bool((self.scale != 1).any() or self.shift.any())

    def input(self, x: Array) -> Floats:
        """x' of rows [..., in]."""
        return (np.asarray(x, np.float64) - self.shift) / self.scale

    def weight(self, weight: Array) -> Floats:
        """W' of a weight [out, in]."""
        return np.asarray(weight, np.float64) * self.scale

    def bias(self, weight: Array) -> Floats:
        """What the shift adds to the layer's bias: [out]."""
        return np.asarray(weight, np.float64) @ self.shift

    def gram(self, gram: Floats, mean: Floats) -> Floats:
        """E[x' x'^T] from E[x x^T] [in, in] and E[x] [in]."""
        centered = gram - np.outer(self.shift, mean) - np.outer(mean, self.shift) + np.outer(self.shift, self.shift)
        moved: Floats = centered / np.outer(self.scale, self.scale)
        return moved


def equalizing_scale(before: Floats, after: Floats) -> Floats:
    """s = sqrt(r1 / r2) from the ranges of a channel in the layer that makes it and in the one that reads it.

    Both ranges become sqrt(r1 r2), which maximizes the precision summed over channels (Nagel et al. 2019,
    section 4.1.2; there s = sqrt(r1 r2) / r2). Channels where a range is zero stay: s = 1.

    before, after: [channels], not negative
    """
    live = (before > 0) & (after > 0)
    ratio = np.divide(before, after, out=np.ones(len(before)), where=live)
    scale: Floats = np.sqrt(ratio)
    return scale


def cross_layer_equalization(
    first: Array, bias: Array | None, second: Array
) -> tuple[Floats, Floats | None, Floats, Floats]:
    """Equal ranges on both sides of a positive-homogeneous function f: f(s x) = s f(x) for s > 0.

        W2 f(W1 x + b1) = W2 S f(S^-1 W1 x + S^-1 b1)        S = diag(equalizing_scale)

    first: W1 [channels, in];  bias: b1 [channels] or None;  second: W2 [out, channels]
    returns S^-1 W1, S^-1 b1, W2 S and the diagonal of S
    """
    scale = equalizing_scale(
        np.abs(first).max(axis=1, initial=0.0).astype(np.float64),
        np.abs(second).max(axis=0, initial=0.0).astype(np.float64),
    )
    moved = None if bias is None else bias / scale
    return first / scale[:, None], moved, second * scale, scale


def bias_absorption(
    bias: Array, second: Array, second_bias: Array, mean: Array, deviation: Array, sigmas: float = 3.0
) -> tuple[Floats, Floats]:
    """Move what a ReLU passes anyway from one bias into the next (Nagel et al. 2019, section 4.1.3).

        relu(y - c) = relu(y) - c  where y >= c        b1' = b1 - c        b2' = b2 + W2 c

    c = max(0, mean - sigmas * deviation) of y = W1 x + b1: for a normal y, 99.865 % of the values are >= c at 3.

    bias: b1 [channels];  second, second_bias: W2 [out, channels], b2 [out];  mean, deviation: of y, [channels]
    returns b1', b2'
    """
    absorbed = np.maximum(0.0, np.asarray(mean, np.float64) - sigmas * np.asarray(deviation, np.float64))
    return np.asarray(bias, np.float64) - absorbed, second_bias + np.asarray(second, np.float64) @ absorbed


def smooth_quant(low: Floats, high: Floats, weight: Array, alpha: float = 0.5, *, shift: bool = True) -> Smoothing:
    """Move the outliers of activation channels into the weight.

        z = (max x + min x) / 2        s = max|x - z|^alpha / max|W|^(1 - alpha)

    SmoothQuant (Xiao et al. 2022, eq. 4); the shift, which centers each channel, is that of Outlier Suppression+
    (Wei et al. 2023) and of SQ-b (MPTQ-ViT 2024). Channels that are constant or unread keep s = 1. The scales
    are divided by their geometric mean: that changes no codes, and keeps the numbers near those of the float model.

    low, high: [in] least and greatest value of each channel;  weight: [out, in] of all layers that read x
    """
    center = (low + high) / 2 if shift else np.zeros(len(low))
    reach = np.maximum(np.abs(high - center), np.abs(low - center))
    return Smoothing(_balanced(reach, np.abs(weight).max(axis=0, initial=0.0).astype(np.float64), alpha), center)


def _balanced(reach: Floats, columns: Floats, alpha: float) -> Floats:
    live = (reach > 0) & (columns > 0)
    if not live.any():
        return np.ones(len(reach))
    log = np.zeros(len(reach))
    log[live] = alpha * np.log(reach[live]) - (1 - alpha) * np.log(columns[live])
    log[live] -= log[live].mean()
    scale: Floats = np.exp(log)
    return scale


def unchanged(channels: int) -> Smoothing:
    """The smoothing that does nothing."""
    return Smoothing(np.ones(channels), np.zeros(channels))


def integer_loss(
    smoothing: Smoothing, low: Floats, high: Floats, mean: Floats, weight: Array, gram: Floats, levels: int = LEVELS
) -> float:
    """What the layer's output loses, E ||W x - W^ x^||^2, when x' is rounded per tensor and W' per output channel.

        tr((W' - Q(W')) H' (W' - Q(W'))^T)  +  ||Q(W')||^2 step^2 / 12        step = (max x' - min x') / (levels - 1)

    The first term is exact; the second takes rounding errors of x' as uniform and independent. Weights: int8.
    """
    moved = smoothing.weight(weight).astype(np.float32)
    codes, scale, _ = quantize_per_channel(moved, 0)
    rounded = dequantize(codes, scale, axis=0)
    span = max(0.0, float(smoothing.input(high).max())) - min(0.0, float(smoothing.input(low).min()))
    step = span / (levels - 1)
    of_input = float(np.square(rounded, dtype=np.float64).sum()) * step**2 / 12
    return layer_loss(moved, rounded, smoothing.gram(gram, mean)) + of_input


def smooth_search(
    low: Floats,
    high: Floats,
    mean: Floats,
    weight: Array,
    gram: Floats,
    *,
    shift: bool = True,
    alphas: Sequence[float] = ALPHAS,
    levels: int = LEVELS,
) -> Smoothing:
    """The alpha of `smooth_quant` that loses least by `integer_loss`; doing nothing is tried too, so never worse.

    low, high, mean: [in] of x;  weight: [out, in] of all readers;  gram: E[x x^T] [in, in]
    """
    tried = [unchanged(len(low))]
    tried += [smooth_quant(low, high, weight, alpha, shift=shift) for alpha in alphas]
    return min(tried, key=lambda s: integer_loss(s, low, high, mean, weight, gram, levels))


def common_tails(low: Floats, high: Floats, mean: Floats, deviation: Floats) -> tuple[Floats, Floats]:
    """Ranges where each channel reaches as many deviations from its mean as the farthest of all channels was seen to.

    Few samples show the tails of few channels. Scales made from what was seen of the others let new data leave the
    range: minilm-l3, 8 samples, one layer: 35 dB as it is, 24 dB with scales from what was seen, 34 dB with these.

    low, high, mean, deviation: [in];  returns low, high, not narrower; a tensor without negative values keeps its low
    """
    live = deviation > 0
    reach = np.maximum(high - mean, mean - low)
    farthest = float((reach[live] / deviation[live]).max(initial=0.0))
    below = low if (low >= 0).all() else np.minimum(low, mean - farthest * deviation)
    return below, np.maximum(high, mean + farthest * deviation)


def outlier_suppression(
    low: Floats,
    high: Floats,
    mean: Floats,
    weight: Array,
    gram: Floats,
    *,
    shift: bool = True,
    levels: int = LEVELS,
) -> Smoothing:
    """Scale down the channels beyond a threshold t and leave the others: s = max(1, max|x - z| / t).

    t is searched, in half powers of two below the largest channel (Outlier Suppression+, Wei et al. 2023). Channels are
    never scaled up, so those that stay small in few samples cannot leave the range. Differs: scored by
    `integer_loss` instead of by running the block. Doing nothing is tried too.

    low, high, mean: [in] of x;  weight: [out, in] of all readers;  gram: E[x x^T] [in, in]
    """
    center = (low + high) / 2 if shift else np.zeros(len(low))
    reach = np.maximum(np.abs(high - center), np.abs(low - center))
    tried = [unchanged(len(low))]
    if reach.max(initial=0.0) > 0:
        tried += [Smoothing(np.maximum(1.0, reach / (reach.max() * share)), center) for share in SHARES]
    return min(tried, key=lambda s: integer_loss(s, low, high, mean, weight, gram, levels))


def repq(low: Floats, high: Floats, levels: int = LEVELS) -> Smoothing:
    """Per-channel quantization of a normalization's output, folded until one scale per tensor does the same.

        s, z: scale and zero point of each channel        s~ = mean s        z~ = mean z, rounded
        r1 = s / s~        r2 = z - z~        x' = (x + s r2) / r1

    so that x' / s~ + z~ = x / s + z: the same codes (RepQ-ViT, Li et al. 2023, section 3.2). Differs: zero need not be
    among a channel's codes, for x' need not be zero where x is; channels that are constant take the mean scale.

    low, high: [in] least and greatest value of each channel
    """
    span = (high - low) / (levels - 1)
    live = span > 0
    if not live.any():
        return unchanged(len(low))
    scale = np.where(live, span, span[live].mean())
    zero = np.rint(-low / scale)
    common, center = float(scale.mean()), float(np.rint(zero.mean()))
    return Smoothing(scale / common, -scale * (zero - center))


def awq_search(
    weight: Array,
    gram: Floats,
    magnitude: Floats,
    grid_of: Callable[[NDArray[np.float32]], Grid],
    exponents: Sequence[float] = EXPONENTS,
) -> tuple[Floats, float]:
    """Scales that save the weights of channels with large activations from rounding (AWQ, Lin et al. 2023, eq. 4-5).

        s = E|x|^a        minimize  tr((W - Q(W S) S^-1) H (W - Q(W S) S^-1)^T)  over a on a grid

    Differs: the objective is taken on the Gram matrix instead of cached inputs. a = 0 is rounding as it is, so the
    result is never worse than that. Scales are divided by sqrt(max s min s), as the authors' code does.

    weight: [out, in];  gram: H [in, in];  magnitude: E|x| [in];  grid_of: the grid for a scaled weight
    returns the scale [in] (x is divided by it, W multiplied) and its loss
    """
    best, least = np.ones(weight.shape[1]), np.inf
    size = np.maximum(np.asarray(magnitude, np.float64), 1e-4)
    for exponent in (0.0, *exponents):
        scale = size**exponent
        scale /= np.sqrt(scale.max() * scale.min())
        scaled = (weight * scale).astype(np.float32)
        grid = grid_of(scaled)
        loss = layer_loss(np.asarray(weight, np.float32), _restored(grid, scaled, scale), gram)
        if loss < least:
            best, least = scale, loss
    return best, least


def _restored(grid: Grid, scaled: NDArray[np.float32], scale: Floats) -> NDArray[np.float32]:
    restored: NDArray[np.float32] = (grid.dequantize(grid.quantize(scaled)) / scale).astype(np.float32)
    return restored
