"""Output rows of a sliding window cut into tiles of pixels: what lies at a border is told apart from what does not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvm import tirx

from lwc.backends.tvm.schedules.conv_plan import Conv
from lwc.backends.tvm.schedules.statements import piece_start, sequence, serial


@dataclass(frozen=True)
class Rows:
    """Rows of `window` in tiles of `pixels`; the last of a row overlaps the one before, so that none is partial."""

    window: Conv
    pixels: int

    @property
    def count(self) -> int:
        """Tiles of a row."""
        return -(-self.window.row // self.pixels)

    def start(self, index: Any) -> Any:
        """Where the tile of this index begins in its row."""
        return piece_start(index, self.pixels, self.window.row)

    def span(self, start: int, kx: int) -> tuple[int, int]:
        """Which pixels of a tile read within the row at this tap: from, to."""
        window = self.window
        first = start * window.stride_x + kx * window.dilation_x - window.left
        inside = [i for i in range(self.pixels) if 0 <= first + i * window.stride_x < window.width]
        return (inside[0], inside[-1] + 1) if inside else (0, 0)

    def inner(self) -> list[int]:
        """Tiles that read within the row alone, by index: neighbours, as borders lie at the ends."""
        if self.window.pointwise:
            return list(range(self.count))
        taps = range(self.window.kernel_width)
        return [i for i in range(self.count) if all(self.span(self.start(i), kx) == (0, self.pixels) for kx in taps)]

    def border_taps(self) -> int:
        """How many taps are written out one by one, at the border."""
        return (self.count - len(self.inner())) * self.window.kernel_width

    def tiles(self, body: Callable[[Any, int | None], tirx.Stmt]) -> tirx.Stmt:
        """`body` of where each tile of a row begins, and of the same as a number if the tile touches the border."""
        inner = self.inner()
        statements = [body(self.start(i), self.start(i)) for i in range(self.count) if i not in inner]
        if inner:
            statements.append(serial(len(inner), lambda i: body(self.start(i), None), inner[0]))
        return sequence(statements)

    def kernel_rows(self, y: Any, body: Callable[[Any], tirx.Stmt]) -> tirx.Stmt:
        """`body` of the kernel rows that meet the data in output row `y`."""
        window = self.window
        reach = (window.out_height - 1) * window.stride_y + (window.kernel_height - 1) * window.dilation_y
        if not window.top and reach < window.height:
            return serial(window.kernel_height, body)
        above = window.top - y * window.stride_y
        start = tirx.max(0, (above + window.dilation_y - 1) // window.dilation_y)
        stop = tirx.min(window.kernel_height, (window.height - 1 + above) // window.dilation_y + 1)
        return serial(tirx.max(stop - start, 0), body, start)
