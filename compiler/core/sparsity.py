"""What --sparsity asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from lwc.compiler.core.errors import UsageError

Kind = Literal["none", "auto", "channels", "mask"]
_CHANNELS = re.compile(r"channels:(0?\.\d+)")
_MASK = re.compile(r"[1-9]\d*:[1-9]\d*|block:[1-9]\d*x[1-9]\d*")
_MOST = 16  # weights in a group of N:M


@dataclass(frozen=True)
class Sparsity:
    """kind: 'auto' searches, 'channels' and 'mask' are done everywhere

    ratio: of the channels of each group, that leave;  pattern: of a mask, as Masked has it
    """

    kind: Kind = "none"
    ratio: float = 0.0
    pattern: str = ""

    @property
    def asked(self) -> bool:
        """Whether one pattern was asked for, whatever it gains."""
        return self.kind in ("channels", "mask")

    @property
    def prunes(self) -> bool:
        """Whether channels may leave."""
        return self.kind in ("auto", "channels")

    @staticmethod
    def parse(text: str) -> Sparsity:
        """Of none, auto, channels:RATIO, N:M or block:RxC. Raises UsageError."""
        if text in ("none", "auto"):
            return Sparsity("auto" if text == "auto" else "none")
        if (found := _CHANNELS.fullmatch(text)) and 0.0 < (ratio := float(found[1])) < 1.0:
            return Sparsity("channels", ratio)
        if _MASK.fullmatch(text) and _fits(text):
            return Sparsity("mask", pattern=text)
        raise UsageError(f"Unknown sparsity '{text}'.", "It is none, auto, channels:RATIO, 2:4 or block:RxC.")


def _fits(pattern: str) -> bool:
    """Whether an N:M keeps some weights and not all."""
    if pattern.startswith("block:"):
        return True
    kept, among = map(int, pattern.split(":"))
    return kept < among <= _MOST
