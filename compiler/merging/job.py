"""What a method that looks at data is given."""

from __future__ import annotations

from dataclasses import dataclass, field

from lwc.compiler.core.progress import Progress
from lwc.compiler.merging.align import Aligned
from lwc.compiler.merging.curve import Curve
from lwc.compiler.merging.recipe import Recipe


@dataclass(frozen=True)
class Job:
    """What a method that looks at data gets: `merge(job) -> (model, notes)` of its module in this package.

    aligned: the base first, where there is one;  calib: as the user gave it, one for all or one of each model
    curves: filled by methods that try coefficients
    """

    aligned: Aligned
    recipe: Recipe
    based: bool
    calib: tuple[object, ...]
    metric: object | None
    progress: Progress
    curves: list[Curve] = field(default_factory=list)
