"""Samples as recovery reads them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from numpy.typing import NDArray

Sample = Mapping[str, NDArray[Any]]


class Feeds(Protocol):
    """Samples by index: a list, or a Calibration. Arrays that are no model inputs are ignored."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> Sample: ...
