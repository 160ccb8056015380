"""What the report says of sites where something may leave the model."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

from lwc.compiler.analysis.channels import Group, find_channels
from lwc.compiler.analysis.group_sizes import macs_of, parameters_of
from lwc.compiler.core.model import Model
from lwc.compiler.core.plan import Choice, Float, Pruned, Site
from lwc.compiler.search.space import Space


class SparseLines:
    """Lines about one cleaned model, with the sizes of a sample."""

    def __init__(self, model: Model) -> None:
        self._model = model

    @cached_property
    def _groups(self) -> Mapping[Site, Group]:
        return {group.site: group for group in find_channels(self._model.ir).groups}

    def choice(self, site: Site, choice: Choice) -> str:
        """The choice in words."""
        group = self._groups.get(site)
        if isinstance(choice, Pruned) and group is not None:
            return f"pruned {len(choice.removed)} of {group.size}"
        return choice.name

    def parameters(self, site: Site, choice: Choice) -> int:
        """Numbers that left the constants; all that the group has a part in where it is whole."""
        group = self._groups.get(site)
        return 0 if group is None else round(_share(group, choice) * parameters_of(group, self._model.by_name()))

    def macs(self, site: Site, choice: Choice) -> int:
        """Multiply-accumulates that left, in the same way."""
        group = self._groups.get(site)
        return 0 if group is None else round(_share(group, choice) * macs_of(group, self._model.by_name()))

    def reason(self, space: Space, site: Site, choice: Choice) -> str:
        """Why the site has this choice."""
        options = space.options.get(site, ())
        if len(options) < 2:
            return "asked for" if options else "the plan says so"
        if not isinstance(choice, Float):
            return f"saves {-space.option(site, choice).ms:.3f} ms"
        best = min(options[1:], key=lambda option: option.ms)
        return f"{self.choice(site, best.choice)} costs accuracy that its {-best.ms:.3f} ms are not worth"


def _share(group: Group, choice: Choice) -> float:
    return len(choice.removed) / group.size if isinstance(choice, Pruned) else 1.0
