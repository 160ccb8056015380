"""Options of `lwc compile`: one frozen dataclass, filled from flags, a recipe file or Python, checked once."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from lwc.compiler.core.errors import UsageError
from lwc.compiler.core.sparsity import Sparsity

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BACKENDS = ("auto", "ort", "tvm", "openvino")
OBJECTIVES = ("latency", "size", "throughput")
PRECISIONS = ("auto", "fp32", "fp16", "bf16", "fp8", "int8", "int8-dynamic", "w8", "w4")
METRICS = ("fidelity", "top1", "cosine", "mse")
MODULE_ATTRIBUTE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")

# Flags whose field carries a unit; the others have the field's name with dashes.
FIELD_OF_FLAG = {
    "max-latency": "max_latency_ms",
    "max-size": "max_size_mb",
    "max-memory": "max_memory_gb",
    "tune": "tune_minutes",
    "recover": "recover_minutes",
}
PATH_FIELDS = ("out", "plan", "cache")


@dataclass(frozen=True)
class CompileOptions:
    """Everything a user can ask of a compile. Raises UsageError when it makes no sense.

    out: folder of the artifact; None: the model's path with the suffix .lwc
    target: name or TOML file;  backend: one of BACKENDS;  calib: path, 'module:function', callable or
    iterable of dicts, None: synthetic;  samples: use at most so many
    metric: one of METRICS, 'module:attr', function(outputs, sample) -> float, or a class with update and compute
    share: weights that differ by no more, relative to the greatest of theirs, are stored once
    max_drop: the metric may fall by so much, absolute;  max_latency_ms, max_size_mb: hard budgets
    best_effort: write the best found even over budget;  pareto: the plans that no other beats, too
    tune_minutes: for measuring kernels, by runtimes that write their own;  tuner: rpc://HOST:PORT/KEY to measure there
    recover_minutes: for teaching the pruned float model what the original answers
    portable: standard ONNX operators only
    plan: apply this plan and search nothing;  shape: input name -> fixed shape
    max_memory_gb: what statistics and kept activations take, beside the models and their sessions, in 1e9 bytes
    """

    out: Path | None = None
    target: str = "host"
    backend: str = "auto"
    calib: object | None = None
    samples: int | None = None
    metric: object = "fidelity"
    max_drop: float = 0.01
    objective: str = "latency"
    max_latency_ms: float | None = None
    max_size_mb: float | None = None
    precision: str = "auto"
    sparsity: str = "none"
    share: float = 0.0
    best_effort: bool = False
    pareto: bool = False
    tune_minutes: float = 0.0
    tuner: str | None = None
    recover_minutes: float = 0.0
    portable: bool = False
    plan: Path | None = None
    shape: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    workers: int = 1
    scheduler: str | None = None
    cache: Path | None = None
    no_cache: bool = False
    seed: int = 0
    max_memory_gb: float = 0.5

    def __post_init__(self) -> None:
        _check_names(self)
        _check_numbers(self)
        if self.tuner is not None and not self.tune_minutes:
            raise UsageError("--tuner names devices to tune on, but there is no time to.", "Give --tune MINUTES.")
        if self.tune_minutes and self.no_cache:
            raise UsageError("What --tune finds is kept in the cache.", "Leave out --no-cache, or --tune.")
        if self.recover_minutes and self.sparsity == "none":
            raise UsageError("--recover teaches a pruned model, and nothing is pruned.", "Give --sparsity.")
        if self.recover_minutes and (self.pareto or self.plan is not None):
            raise UsageError("--recover finds a model of its own.", "Leave out --plan and --pareto, or --recover.")

    @property
    def sparse(self) -> Sparsity:
        """What `sparsity` asks for."""
        return Sparsity.parse(self.sparsity)

    @property
    def cache_folder(self) -> Path | None:
        """Where statistics and costs are kept between runs; None when nothing may be kept."""
        if self.no_cache:
            return None
        return self.cache or user_cache_folder()

    def destination(self, source: Path | None) -> Path:
        """The folder of the artifact: `out`, or the model file with the suffix .lwc. Raises UsageError."""
        if self.out is not None:
            return self.out
        if source is None:
            raise UsageError("A model from memory has no path to derive the output from.", "Give out=FOLDER.")
        return source.with_suffix(".lwc")

    @property
    def limited(self) -> bool:
        """Whether there is a hard budget of time or size."""
        return self.max_latency_ms is not None or self.max_size_mb is not None

    def excess(self, median_ms: float, size_bytes: float) -> str:
        """Which hard budget such a result breaks, in one sentence; empty when it holds them."""
        if self.max_latency_ms is not None and median_ms > self.max_latency_ms:
            return f"The best found takes {median_ms:.3g} ms; {self.max_latency_ms:g} ms are allowed."
        if self.max_size_mb is not None and size_bytes > self.max_size_mb * 1e6:
            return f"The best found has {size_bytes / 1e6:.3g} MB; {self.max_size_mb:g} MB are allowed."
        return ""

    def resolved(self) -> dict[str, Any]:
        """Every option as plain JSON values, for the report."""
        return {option.name: _plain(getattr(self, option.name)) for option in fields(self)}


def user_cache_folder() -> Path:
    """The platform's folder for what can be computed again."""
    if os.environ.get("XDG_CACHE_HOME"):
        return Path(os.environ["XDG_CACHE_HOME"]) / "lwc"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "lwc"
    if sys.platform == "win32" and os.environ.get("LOCALAPPDATA"):
        return Path(os.environ["LOCALAPPDATA"]) / "lwc" / "cache"
    return Path.home() / ".cache" / "lwc"


def make_options(flags: Mapping[str, object], recipe: Path | None = None) -> CompileOptions:
    """Options from flag names (dashes or underscores), on top of a recipe file's; None means not given."""
    values = read_recipe(recipe) if recipe is not None else {}
    values.update({_field_name(name): value for name, value in flags.items() if value is not None})
    for name in PATH_FIELDS:
        if isinstance(values.get(name), str):
            values[name] = Path(values[name])
    if isinstance(values.get("calib"), os.PathLike):
        values["calib"] = os.fspath(values["calib"])
    if "shape" in values:
        values["shape"] = {name: _dimensions(name, dims) for name, dims in values["shape"].items()}
    return CompileOptions(**values)


def read_recipe(path: Path) -> dict[str, Any]:
    """Fields of a recipe file; its relative paths are taken from the file's own folder. Raises UsageError."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"The recipe '{path}' cannot be read ({error}).") from error
    values = {_field_name(name): value for name, value in data.items()}
    for name, value in values.items():
        _check_type(path, name, value)
    for name in (*PATH_FIELDS, "calib"):
        value = values.get(name)
        if isinstance(value, str) and not (name == "calib" and is_module_attribute(value)):
            values[name] = path.parent / value
    return values


def parse_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """NAME=1,3,224,224 -> (name, dimensions). Raises UsageError."""
    name, separator, dims = text.rpartition("=")
    if not separator or not name:
        raise UsageError(f"'{text}' is not a shape.", "Write NAME=1,3,224,224.")
    return name, _dimensions(name, dims.split(",") if dims.strip() else [])


def is_module_attribute(text: str) -> bool:
    """True for 'package.module:function', which no Windows drive or ordinary path looks like."""
    return len(text.partition(":")[0]) > 1 and MODULE_ATTRIBUTE.fullmatch(text) is not None


def _field_name(flag: str) -> str:
    name = FIELD_OF_FLAG.get(flag.replace("_", "-"), flag.replace("-", "_"))
    known = [option.name for option in fields(CompileOptions)]
    if name not in known:
        flags = {field_name: flag_name for flag_name, field_name in FIELD_OF_FLAG.items()}
        names = ", ".join(flags.get(option, option.replace("_", "-")) for option in known)
        raise UsageError(f"There is no option '{flag}'.", f"Options are: {names}.")
    return name


TEXT = (
    "target", "backend", "calib", "metric", "objective", "precision", "sparsity", "scheduler", "tuner", *PATH_FIELDS
)  # fmt: skip
FLAGS = ("best_effort", "pareto", "portable", "no_cache")
WHOLE = ("samples", "workers", "seed")


def _check_type(path: Path, name: str, value: object) -> None:
    if name in TEXT:
        fits, wanted = isinstance(value, str), "a string"
    elif name in FLAGS:
        fits, wanted = isinstance(value, bool), "true or false"
    elif name in WHOLE:
        fits, wanted = isinstance(value, int) and not isinstance(value, bool), "a whole number"
    elif name == "shape":
        fits = isinstance(value, dict) and all(isinstance(dims, list) for dims in value.values())
        wanted = "a table of lists, such as x = [1, 3, 224, 224]"
    else:
        fits, wanted = isinstance(value, (int, float)) and not isinstance(value, bool), "a number"
    if not fits:
        raise UsageError(f"In the recipe '{path}', '{name}' must be {wanted}, not {value!r}.")


def _dimensions(name: str, dims: Any) -> tuple[int, ...]:
    try:
        sizes = tuple(int(size) for size in dims)
    except (TypeError, ValueError) as error:
        raise UsageError(f"The shape of '{name}' holds something that is no whole number: {dims!r}.") from error
    if any(size < 1 for size in sizes):
        raise UsageError(f"The shape of '{name}' holds a size below 1: {list(sizes)}.")
    return sizes


def _check_names(options: CompileOptions) -> None:
    for name, value, known in (
        ("backend", options.backend, BACKENDS),
        ("objective", options.objective, OBJECTIVES),
        ("precision", options.precision, PRECISIONS),
    ):
        if value not in known:
            raise UsageError(f"Unknown {name} '{value}'.", f"It is one of: {', '.join(known)}.")
    Sparsity.parse(options.sparsity)
    metric = options.metric
    if isinstance(metric, str) and metric not in METRICS and not is_module_attribute(metric):
        raise UsageError(f"Unknown metric '{metric}'.", f"It is one of {', '.join(METRICS)}, or module:attr.")


def _check_numbers(options: CompileOptions) -> None:
    for name, value, low, strict in (
        ("samples", options.samples, 1, False),
        ("max-drop", options.max_drop, 0, False),
        ("max-latency", options.max_latency_ms, 0, True),
        ("max-size", options.max_size_mb, 0, True),
        ("tune", options.tune_minutes, 0, False),
        ("recover", options.recover_minutes, 0, False),
        ("share", options.share, 0, False),
        ("workers", options.workers, 1, False),
        ("seed", options.seed, 0, False),
        ("max-memory", options.max_memory_gb, 0, True),
    ):
        if value is None:
            continue
        if not math.isfinite(value) or value < low or (strict and value == low):
            limit = "above" if strict else "at least"
            raise UsageError(f"'{name}' must be {limit} {low}, not {value}.")


def _plain(value: object) -> Any:
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): list(dims) for key, dims in value.items()}
    kind: Any = value if callable(value) else type(value)
    return f"{kind.__module__}:{getattr(kind, '__qualname__', type(kind).__name__)}"
