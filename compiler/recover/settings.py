"""How a recovery learns."""

from __future__ import annotations

from dataclasses import dataclass, field

import psutil


@dataclass(frozen=True)
class Settings:
    """everything: all weights learn as a whole;  rank: of updates where they do not;  batch: samples in a step

    rate: of learning, in units of each weight's own size;  most_bytes: of samples and values that are held at once
    threads: of PyTorch; by default one for each core: two that share one are several times slower
    """

    everything: bool = False
    rank: int = 8
    batch: int = 32
    rate: float = 1e-2
    most_bytes: int = 500_000_000
    threads: int = field(default_factory=lambda: psutil.cpu_count(logical=False) or 1)
