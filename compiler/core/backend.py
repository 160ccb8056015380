"""What a runtime must offer to be a candidate: say what it takes, build, load, run, profile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.model import Model
from lwc.compiler.core.progress import Progress
from lwc.compiler.core.target import Target

Array = NDArray[Any]
Feeds = Mapping[str, Array]

OPEN_BYTES = 1_000_000_000  # weights of sessions that stay open side by side for later; one may have more


@dataclass(frozen=True)
class Support:
    """Which nodes a backend cannot run: node name -> reason. Empty means all of the model."""

    refused: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return not self.refused


@dataclass(frozen=True)
class BuildOptions:
    """folder: an existing empty folder to write into;  portable: standard ONNX operators only

    shapes: of inputs whose dimensions the model leaves open, the most frequent first, for runtimes that compile for
    shapes
    """

    folder: Path
    portable: bool = False
    external_data: bool = False
    shapes: Sequence[Mapping[str, tuple[int, ...]]] = ()


@dataclass(frozen=True)
class Port:
    """One input or output of a session. shape: int, or a symbol's name for a dynamic dimension."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]


class Session(Protocol):
    """A loaded model, ready to run."""

    @property
    def inputs(self) -> Sequence[Port]: ...
    @property
    def outputs(self) -> Sequence[Port]: ...
    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Outputs by name for one complete set of inputs. Raises BadCalibration when these do not fit."""
        ...


class Backend(Protocol):
    """A runtime that candidates are built for.

    may_crash: it has been seen to end the process on graphs that it took; these are tried in another one first
    fixes_shapes: it compiles for shapes, and is asked about a model and builds it with those of a sample
    """

    name: str
    may_crash: bool
    fixes_shapes: bool

    def version(self) -> str:
        """Name and version of the runtime, part of the key of cached costs."""
        ...

    def narrow(self, target: Target) -> Target:
        """The target without what this version of the runtime cannot execute on it."""
        ...

    def supports(self, model: Model, target: Target) -> Support: ...

    def session(
        self, model: Model, target: Target, outputs: Sequence[str] = (), *, lean: bool = False
    ) -> Session:
        """Run a model from memory; `outputs` names intermediate values to return besides the graph's own.

        lean: keep no memory between runs, where the runtime has the choice; for sessions that nobody times
        """
        ...

    def profile(self, model: Model, target: Target, feeds: Sequence[Feeds], runs: int) -> dict[str, float]:
        """Median milliseconds per run spent in each executed node, by node name."""
        ...

    def build(self, model: Model, target: Target, options: BuildOptions) -> tuple[str, ...]:
        """Write the deployable's files into options.folder; returns their names."""
        ...

    def load(self, folder: Path, target: Target) -> Session:
        """Open what `build` wrote."""
        ...


@runtime_checkable
class TunesKernels(Protocol):
    """A backend that finds faster kernels by measuring them, and keeps them in the folder that targets name."""

    def tune(
        self,
        models: Sequence[tuple[Model, Mapping[str, tuple[int, ...]]]],
        target: Target,
        seconds: float,
        progress: Progress,
        tuner: str | None = None,
    ) -> None:
        """Measure kernels of the models, each with the shapes of its inputs. Ctrl-C ends it and keeps what was found.

        tuner: where devices to measure on are found, None: this machine. Raises UsageError.
        """
        ...


@runtime_checkable
class PlansMemory(Protocol):
    """A backend that plans when it compiles where the values of a run lie."""

    def activation_bytes(self, folder: Path) -> int | None:
        """Of all intermediate values and outputs of one run of what `build` wrote; None where their shapes are open."""
        ...


@runtime_checkable
class NamesShapes(Protocol):
    """A backend that compiles for shapes, and knows for which it did."""

    def built_for(self, folder: Path) -> Sequence[Mapping[str, tuple[int, ...]]]:
        """Shapes of the inputs that `build` wrote code for; other shapes run on the reference runtime."""
        ...
