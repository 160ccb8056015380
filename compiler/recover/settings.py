"""How a recovery learns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """everything: all weights learn as a whole;  rank: of updates where they do not;  batch: samples in a step

    rate: of learning, in units of each weight's own size;  most_bytes: of samples and values that are held at once
    threads: of PyTorch; where other work shares the cores, two are several times slower than one
    """

    everything: bool = False
    rank: int = 8
    batch: int = 32
    rate: float = 1e-2
    most_bytes: int = 500_000_000
    threads: int = 1
