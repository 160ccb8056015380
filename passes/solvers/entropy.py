"""Coefficients under which predictions are surest, from logits that are linear in them for a small step.

    min_d  mean H(softmax(z + J d))        |d_i| <= r
    H(p) = -sum_c p_c log p_c              dH/dz_c = -p_c (log p_c + H)

Entropy stands in for the loss that labels would give (AdaMerging, Yang et al. 2024, eq. 4). They descend along
gradients that a framework computes; here J comes of differences, and one J serves a whole step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

Floats = NDArray[np.float64]


def entropies(logits: Floats) -> Floats:
    """H of each row, in nats.  logits: [n, classes];  returns [n]"""
    logs = _log_softmax(logits)
    found: Floats = -(np.exp(logs) * logs).sum(axis=-1)
    return found


def surer(logits: Floats, jacobian: Floats, radius: float) -> Floats:
    """The step d [coefficients] of least mean entropy in the box: from 0 downhill, for it has many minima.

    logits: z [n, classes];  jacobian: J [coefficients, n, classes]
    """
    count = len(jacobian)
    flat = jacobian.reshape(count, -1)

    def loss(step: Floats) -> tuple[float, Floats]:
        logs = _log_softmax(logits + (step @ flat).reshape(logits.shape))
        chances = np.exp(logs)
        entropy = -(chances * logs).sum(axis=-1, keepdims=True)
        slope = -chances * (logs + entropy) / len(logits)
        return float(entropy.mean()), flat @ slope.ravel()

    found = minimize(loss, np.zeros(count), jac=True, method="L-BFGS-B", bounds=[(-radius, radius)] * count)
    step: Floats = found.x
    return step


def _log_softmax(logits: Floats) -> Floats:
    moved = logits - logits.max(axis=-1, keepdims=True)
    found: Floats = moved - np.log(np.exp(moved).sum(axis=-1, keepdims=True))
    return found
