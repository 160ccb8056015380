"""What a recovery keeps in the cache, so that the next one goes on where it ended."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.cache import Cache, write_aside

_META = "meta"
_WEIGHT = "weight:"


@dataclass
class State:
    """seconds: spent so far;  finished: more time would not help;  weights: the best, by name"""

    seconds: float = 0.0
    finished: bool = False
    weights: dict[str, NDArray[Any]] = field(default_factory=dict)


def load(cache: Cache, key: object) -> State:
    """What is kept under the key; a fresh state when there is nothing, or something damaged."""
    path = cache.path("recover", key, ".npz")
    if path is None or not path.exists():
        return State()
    try:
        with np.load(path, allow_pickle=False) as file:
            meta = json.loads(str(file[_META]))
            weights = {name.removeprefix(_WEIGHT): file[name] for name in file.files if name != _META}
        return State(**meta, weights=weights)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile):
        return State()


def save(cache: Cache, key: object, state: State) -> None:
    """Keep the state under the key, where the cache has a folder."""
    path = cache.path("recover", key, ".npz")
    if path is None:
        return
    meta = {"seconds": state.seconds, "finished": state.finished}
    data = io.BytesIO()
    arrays = {_WEIGHT + name: array for name, array in state.weights.items()}
    np.savez(data, **{_META: np.asarray(json.dumps(meta))}, **arrays)  # type: ignore[arg-type]
    write_aside(path, data.getvalue())
