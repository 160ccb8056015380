"""How each parameter is merged: settings for all, and for those whose names fit a pattern, others.

    method = "ties"
    base = "base.onnx"              # from the recipe's own folder
    weights = [0.6, 0.4]            # one of each model
    density = 0.2                   # or one of each model
    scale = 1.0
    rescale = "l1"                  # "density", "none" or a number q
    normalize = true
    shrink = 0.9                    # of regmean
    in_order = false                # of regmean: each layer for what those before it give, once merged
    learned = false                 # of soup
    seed = 0
    partial = false

    [[layers]]                      # the last that fits counts
    match = ["head.*", "*.norm?.*"]
    method = "linear"               # or "keep"
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from lwc.compiler.core.errors import UsageError
from lwc.compiler.merging.methods import KEEP, METHODS, find_method
from lwc.passes.solvers.regmean import SHRINK
from lwc.passes.solvers.task_vectors import L1, RESCALES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@dataclass(frozen=True)
class Settings:
    """How one parameter is merged. Raises UsageError when it makes no sense.

    weights: one of each model, (): equal ones;  density: what stays of task vectors, one for all or one of each model
    scale: of the sum of task vectors;  rescale: what DARE does about what it drops
    normalize: divide by the weights that went in, None: as the method does by itself (TIES does)
    shrink: of Gram matrices, what their entries off the diagonal are multiplied by
    """

    method: str = "linear"
    weights: tuple[float, ...] = ()
    density: tuple[float, ...] = (1.0,)
    scale: float = 1.0
    rescale: str | float = L1
    normalize: bool | None = None
    shrink: float = SHRINK

    def __post_init__(self) -> None:
        if self.method != KEEP:
            find_method(self.method)
        _check_numbers("weights", self.weights)
        _check_numbers("density", self.density, low=0.0, high=1.0)
        _check_numbers("scale", (self.scale,))
        _check_numbers("shrink", (self.shrink,), low=0.0, high=1.0)
        if isinstance(self.rescale, str):
            if self.rescale not in RESCALES:
                raise UsageError(f"Unknown rescale '{self.rescale}'.", f"It is {', '.join(RESCALES)}, or a number.")
        else:
            _check_numbers("rescale", (self.rescale,), low=1e-6)

    def shares(self, models: int) -> tuple[float, ...]:
        """A weight for each model. Raises UsageError."""
        if self.weights and len(self.weights) != models:
            raise UsageError(f"There are {len(self.weights)} weights for {models} models.", "Give one for each.")
        shares = self.weights or (1.0,) * models
        if self.method in ("linear", "slerp") and math.isclose(sum(shares), 0.0, abs_tol=1e-8):
            raise UsageError(f"'{self.method}' divides by the sum of the weights, which is zero.")
        if self.method in ("regmean", "fisher") and (min(shares) < 0.0 or sum(shares) <= 0.0):
            raise UsageError(f"'{self.method}' takes no negative weights, and one above zero.")
        return shares

    def densities(self, models: int) -> tuple[float, ...]:
        """A density for each model. Raises UsageError."""
        if len(self.density) not in (1, models):
            raise UsageError(f"There are {len(self.density)} densities for {models} models.", "Give one, or one each.")
        return self.density * models if len(self.density) == 1 else self.density


@dataclass(frozen=True)
class Override:
    """Other settings for parameters whose names fit one of the patterns."""

    patterns: tuple[str, ...]
    changes: Mapping[str, Any]

    def fits(self, name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in self.patterns)


@dataclass(frozen=True)
class Recipe:
    """settings: of all parameters;  overrides: the last that fits counts;  partial: what has no counterpart is kept

    in_order: layers are solved one after the other;  learned: weights of a soup are looked for
    """

    settings: Settings = field(default_factory=Settings)
    overrides: tuple[Override, ...] = ()
    base: Path | None = None
    seed: int = 0
    partial: bool = False
    in_order: bool = False
    learned: bool = False

    def of(self, name: str) -> Settings:
        """The settings of one parameter."""
        found = [override for override in self.overrides if override.fits(name)]
        return replace(self.settings, **found[-1].changes) if found else self.settings

    def check(self, models: int) -> None:
        """Raise UsageError where weights or densities are not of so many models, or a setting is of no method."""
        overridden = [replace(self.settings, **override.changes) for override in self.overrides]
        for settings in (self.settings, *overridden):
            settings.shares(models)
            settings.densities(models)
        methods = {settings.method for settings in (self.settings, *overridden)} - {KEEP}
        read = {setting for name in methods for setting in METHODS[name].settings}
        for name in _OF_METHODS:
            owner, default = (self, Recipe()) if name in _GENERAL else (self.settings, Settings())
            if getattr(owner, name) != getattr(default, name) and name not in read:
                raise UsageError(f"'{self.settings.method}' has no {name}.", "Leave it out.")

    def check_patterns(self, names: Iterable[str]) -> None:
        """Raise UsageError for a pattern that fits nothing."""
        known = list(names)
        for pattern in (pattern for override in self.overrides for pattern in override.patterns):
            if not any(fnmatchcase(name, pattern) for name in known):
                raise UsageError(
                    f"The recipe's pattern '{pattern}' fits no parameter.",
                    "Without it, the table of `lwc merge` shows their names.",
                )


_SETTINGS = tuple(option.name for option in fields(Settings))
_OF_METHODS = ("weights", "density", "scale", "rescale", "normalize", "shrink", "in_order", "learned")
_GENERAL = ("base", "seed", "partial", "in_order", "learned")
_NUMBERS = ("weights", "density")


def make_recipe(flags: Mapping[str, object], file: Path | None = None) -> Recipe:
    """A recipe from flags on top of a file's; None means not given. Raises UsageError."""
    data = _read(file) if file is not None else {}
    layers = data.pop("layers", [])
    data.update({name: value for name, value in flags.items() if value is not None})
    values = {name: _value(name, value, (*_SETTINGS, *_GENERAL)) for name, value in data.items()}
    general = {name: values.pop(name) for name in _GENERAL if name in values}
    overrides = tuple(_override(layer) for layer in layers) if isinstance(layers, list) else ()
    return Recipe(Settings(**values), overrides, **general)


def _read(file: Path) -> dict[str, Any]:
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"The recipe '{file}' cannot be read ({error}).") from error
    if isinstance(data.get("base"), str):
        data["base"] = file.parent / data["base"]
    if not isinstance(data.get("layers", []), list):
        raise UsageError(f"In the recipe '{file}', 'layers' must be tables: [[layers]].")
    return data


def _override(layer: object) -> Override:
    if not isinstance(layer, Mapping) or "match" not in layer:
        raise UsageError("A recipe's [[layers]] needs match = \"PATTERN\".")
    match = layer["match"]
    patterns = (match,) if isinstance(match, str) else tuple(match) if isinstance(match, list) else ()
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise UsageError(f"In a recipe's [[layers]], 'match' must be a pattern or a list of them, not {match!r}.")
    changes = {name: _value(name, value, _SETTINGS) for name, value in layer.items() if name != "match"}
    method = METHODS.get(changes.get("method", KEEP))
    if method is not None and method.module is not None:
        raise UsageError(f"'{changes['method']}' looks at data, and is for whole models, not for layers of a recipe.")
    Settings(**changes)
    return Override(patterns, changes)


def _value(name: str, value: Any, known: tuple[str, ...]) -> Any:
    """The value with the type of its field."""
    if name not in known:
        raise UsageError(f"There is no setting '{name}' in a merge recipe.", f"Settings are: {', '.join(known)}.")
    if name in _NUMBERS:
        numbers = value if isinstance(value, (list, tuple)) else [value]
        return tuple(_typed(name, number, (int, float), "a number, or a list of them") for number in numbers)
    if name in ("partial", "normalize", "in_order", "learned"):
        return _typed(name, value, (bool,), "true or false")
    if name == "seed":
        return _typed(name, value, (int,), "a whole number")
    if name == "base":
        return Path(_typed(name, value, (str, Path), "a path"))
    if name == "rescale":
        return _typed(name, value, (int, float, str), "a name or a number")
    return _typed(name, value, (str,), "a name") if name == "method" else _typed(name, value, (int, float), "a number")


def _typed(name: str, value: Any, types: tuple[type, ...], wanted: str) -> Any:
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        raise UsageError(f"'{name}' must be {wanted}, not {value!r}.")
    return value


def _check_numbers(name: str, values: tuple[float, ...], low: float = -math.inf, high: float = math.inf) -> None:
    for value in values:
        if not math.isfinite(value) or not low <= value <= high:
            limits = f" between {low:g} and {high:g}" if high < math.inf else f" of at least {low:g}" if low > 0 else ""
            raise UsageError(f"'{name}' must be finite{limits}, not {value:g}.")
