"""Calibration samples: streamed, checked against the model's inputs, split by content, never held in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lwc.compiler.core.backend import Feeds, Port
from lwc.compiler.core.errors import BadCalibration
from lwc.compiler.core.model import Model
from lwc.compiler.fitting import fit
from lwc.compiler.samples import Samples, open_samples
from lwc.compiler.synthetic import SyntheticSamples

Array = NDArray[Any]


@dataclass(frozen=True)
class Fingerprint:
    """What is known of a sample without holding it. inputs, content: sha256 without and with labels;  size: bytes."""

    inputs: bytes
    content: bytes
    size: int


@dataclass(frozen=True)
class Calibration:
    """Samples, each a dict of input name -> array with labels beside them; iterating reads them anew each time.

    order: the samples of `store` that belong to this set;  fingerprints: by index in `store`
    labels: names of arrays that are no model inputs
    reused: this set came from split() of samples that all had the same inputs, so both halves are the same
    """

    store: Samples
    inputs: tuple[Port, ...]
    order: tuple[int, ...]
    fingerprints: Mapping[int, Fingerprint]
    seed: int
    source: Literal["user", "synthetic"] = "user"
    labels: tuple[str, ...] = ()
    reused: bool = False

    @staticmethod
    def open(source: object, inputs: Sequence[Port], *, limit: int | None = None, seed: int = 0) -> Calibration:
        """Open and check every sample once.

        source: .npz (one array per input, first axis = samples), a folder of .npz (one sample per file),
            'module:function' or a callable (yields dicts), a list or iterable of dicts, a dict of arrays like a
            .npz, or a Calibration. Iterators and compressed .npz are spooled to a temporary folder.
        limit: use at most so many, drawn by `seed` (the first ones where the source can only be iterated)
        Raises BadCalibration (missing inputs, shapes, types, NaN, no samples), UsageError.
        """
        if isinstance(source, Calibration):
            return source if limit is None else source.take(limit)
        inputs = tuple(inputs)
        store = open_samples(source, inputs, limit)
        order = _drawn(len(store), limit, seed)
        if not order:
            raise BadCalibration("The calibration set holds no samples.", "Give one at least, better 32 or more.")
        fingerprints: dict[int, Fingerprint] = {}
        labels: tuple[str, ...] = ()
        for index in order:
            sample = fit(store[index], inputs, store.origin(index))
            names = tuple(list(sample)[len(inputs) :])
            if fingerprints and set(names) != set(labels):
                odd = sorted(set(names) ^ set(labels))[0]
                raise BadCalibration(
                    f"{store.origin(index)}: '{odd}' is in some calibration samples and not in others.",
                    "Give every sample the same labels.",
                )
            labels = names
            fingerprints[index] = _fingerprint(sample, inputs)
        return Calibration(store, inputs, order, fingerprints, seed, labels=labels)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the model's inputs."""
        return tuple(port.name for port in self.inputs)

    def __len__(self) -> int:
        return len(self.order)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> dict[str, Array]:
        """One sample, labels included, its inputs of the model's types."""
        at = self.order[index]
        return fit(self.store[at], self.inputs, self.store.origin(at))

    def feeds(self) -> Iterator[dict[str, Array]]:
        """The samples without their labels."""
        return ({name: sample[name] for name in self.names} for sample in self)

    def largest(self) -> dict[str, Array]:
        """The feeds of the sample with most bytes."""
        at = max(range(len(self)), key=lambda i: self.fingerprints[self.order[i]].size)
        sample = self[at]
        return {name: sample[name] for name in self.names}

    def take(self, n: int) -> Calibration:
        """The first n samples."""
        return replace(self, order=self.order[:n])

    def without(self, n: int) -> Calibration:
        """All but the first n samples."""
        return replace(self, order=self.order[n:])

    def split(self) -> tuple[Calibration, Calibration]:
        """(calibration, held out): halves drawn by the seed, each with at least one sample.

        Samples with the same inputs stay on one side. When all have the same, both are the whole set and `reused`.
        """
        alike: dict[bytes, list[int]] = {}
        for index in self.order:
            alike.setdefault(self.fingerprints[index].inputs, []).append(index)
        if len(alike) == 1:
            both = replace(self, reused=True)
            return both, both
        groups = list(alike.values())
        shuffled = [groups[i] for i in np.random.default_rng(self.seed).permutation(len(groups)).tolist()]
        halves: tuple[list[int], list[int]] = ([], [])
        for group in sorted(shuffled, key=len, reverse=True):
            halves[len(halves[1]) < len(halves[0])].extend(group)
        return replace(self, order=tuple(halves[0])), replace(self, order=tuple(halves[1]))

    def digest(self) -> str:
        """sha256 of all arrays, labels included, in order."""
        h = hashlib.sha256()
        for index in self.order:
            h.update(self.fingerprints[index].content)
        return h.hexdigest()


def synthesize(
    inputs: Sequence[Port],
    model: Model | None = None,
    count: int = 32,
    seed: int = 0,
    shapes: Mapping[str, Sequence[int]] | None = None,
    run: Callable[[Feeds], object] | None = None,
) -> Calibration:
    """Plausible inputs by type and name, made anew on each reading; see lwc.compiler.synthetic.

    model: read for vocabulary sizes and pixel scales;  shapes: input name -> shape that overrides the port's
    run: of a session of the model; free dimensions then take the first likely sizes that it runs on
    Raises BadCalibration.
    """
    inputs = tuple(inputs)
    store = SyntheticSamples.plan(inputs, model, count, seed, shapes or {}, run)
    prints = {index: Fingerprint(key, key, 0) for index, key in enumerate(store.keys())}
    return Calibration(store, inputs, tuple(range(count)), prints, seed, source="synthetic")


def _drawn(count: int, limit: int | None, seed: int) -> tuple[int, ...]:
    if limit is None or limit >= count:
        return tuple(range(count))
    return tuple(sorted(np.random.default_rng(seed).permutation(count)[:limit].tolist()))


def _fingerprint(sample: Mapping[str, Array], inputs: Sequence[Port]) -> Fingerprint:
    hashes = {name: _array_hash(name, array) for name, array in sample.items()}
    fed = hashlib.sha256(b"".join(hashes[port.name] for port in inputs)).digest()
    content = hashlib.sha256(b"".join(hashes[name] for name in sorted(hashes))).digest()
    return Fingerprint(fed, content, sum(sample[port.name].nbytes for port in inputs))


def _array_hash(name: str, array: Array) -> bytes:
    array = np.asarray(array)
    h = hashlib.sha256(f"{name}\0{array.dtype}\0{array.shape}\0".encode())
    if array.dtype == np.object_:
        h.update(repr(array.tolist()).encode())
    else:
        h.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return h.digest()
