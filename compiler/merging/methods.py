"""The methods of `lwc merge`: what each needs, and where those that look at data are."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

from lwc.compiler.core.errors import UsageError

KEEP = "keep"  # of a recipe's layers: the parameter stays as the base, or the first model, has it
_HOME = "lwc.compiler.merging"


@dataclass(frozen=True)
class Method:
    """base: takes a common one;  fewest, most: models besides it;  module: of lwc.compiler.merging, if it needs data

    settings: of a recipe, those that it looks at
    tidies: the merged model has the tidied form of the first, and the method sees to masks itself
    """

    summary: str
    base: bool = False
    fewest: int = 2
    most: int | None = None
    module: str | None = None
    settings: frozenset[str] = frozenset({"weights"})
    tidies: bool = False

    @property
    def available(self) -> bool:
        """Whether its module is there: a method that needs none always is."""
        return self.module is None or find_spec(f"{_HOME}.{self.module}") is not None


_SUMS = frozenset({"weights", "scale", "normalize"})
_THINNED = _SUMS | {"density"}
_DROPPED = _THINNED | {"rescale"}
_SCALED = frozenset({"weights", "scale"})
_SOLVED = frozenset({"weights", "shrink", "in_order"})

METHODS = {
    "linear": Method("weighted average"),
    "slerp": Method("along the arc between two models", most=2),
    "task-arithmetic": Method("base plus the weighted sum of what each learned", base=True, fewest=1, settings=_SUMS),
    "ties": Method("the largest changes, of the sign that most agree on", base=True, fewest=1, settings=_THINNED),
    "dare": Method("random changes that make up for the rest", base=True, fewest=1, settings=_DROPPED),
    "dare-ties": Method("random changes, of the sign that most agree on", base=True, fewest=1, settings=_DROPPED),
    "model-stock": Method("towards the average, as far as the models agree", base=True, settings=frozenset()),
    "soup": Method(
        "greedy average, each model kept only where the metric gains", module="soup", settings=frozenset({"learned"})
    ),
    "fisher": Method("average weighted by importance", module="fisher"),
    "regmean": Method("least squares over each layer's inputs", module="regmean", settings=_SOLVED),
    "opcm": Method("orthogonal projection, one model at a time", base=True, module="opcm", settings=_SCALED),
    "adamerging": Method("coefficients of least entropy", base=True, module="adamerging", settings=frozenset()),
    "bcwi": Method("between old and new, with the fewest negative flips", most=2, module="bcwi"),
    "rebasin": Method("channels permuted to match, then averaged", module="rebasin", tidies=True),
    "pleas": Method("channels permuted to match, then least squares", module="pleas", tidies=True),
}


def find_method(name: str) -> Method:
    """The method of that name. Raises UsageError."""
    found = METHODS.get(name)
    if found is None:
        raise UsageError(f"Unknown merge method '{name}'.", f"It is one of: {', '.join(METHODS)}.")
    if not found.available:
        ready = ", ".join(known for known, method in METHODS.items() if method.available)
        raise UsageError(f"The merge method '{name}' needs data, and is not in this version.", f"There are: {ready}.")
    return found


def check_inputs(name: str, models: int, base: bool) -> None:
    """Raise UsageError when the method cannot take so many models, or with or without a base."""
    method = find_method(name)
    if method.base and not base:
        raise UsageError(f"'{name}' merges what models learned since a common base.", "Give --base BASE.onnx.")
    if base and not method.base:
        raise UsageError(f"'{name}' knows no base.", "Leave out --base, or list it among the models.")
    if models < method.fewest or (method.most is not None and models > method.most):
        wanted = f"{method.fewest}" if method.most == method.fewest else f"at least {method.fewest}"
        raise UsageError(f"'{name}' takes {wanted} models{' besides the base' if base else ''}, not {models}.")
