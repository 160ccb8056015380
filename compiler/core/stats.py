"""What one pass over the calibration data leaves behind about each layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class TensorStats:
    """Moments of one activation over all samples, all positions.

    count: values seen;  mean, variance: of all values
    histogram: [bins] counts;  edges: [bins + 1] their limits, histogram[i] counts edges[i] <= v < edges[i + 1]
    channel_*: [channels] per channel of `axis`, None when not asked for
    """

    count: int
    minimum: float
    maximum: float
    mean: float
    variance: float
    histogram: NDArray[np.int64]
    edges: NDArray[np.float64]
    axis: int | None = None
    channel_minimum: NDArray[np.float64] | None = None
    channel_maximum: NDArray[np.float64] | None = None
    channel_mean: NDArray[np.float64] | None = None
    channel_square: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class LayerStats:
    """Statistics of one site: of each of its inputs and outputs by position (None: constant or absent).

    gram: [in, in] float64, E[x x^T] of the first input as the layer's weight sees it, when asked for
    """

    inputs: tuple[TensorStats | None, ...]
    outputs: tuple[TensorStats | None, ...]
    gram: NDArray[np.float64] | None = None
