"""What the model's outputs feel of an error in a row that is looked up in a table: H = E[J^T J].

An error e of a looked-up row v moves the outputs by J e, J their derivative by v at that place, and costs e H e^T:
the layer objective, with H in the place where a product's weight has the Gram matrix of its input. So all that rounds
weights rounds tables. One derivative per entry of the row is taken by differences, at all places of a sample at once:

    J_j ~ (f(v + h s e_j) - f(v)) / h        s: a random sign for each row of the table

The signs cancel what different rows do together, and leave together what one row does at all the places where it is
looked up: of a table with one row for all tokens, that is what counts. They cancel it in the mean only, so where
several rows are looked up a share of the mean diagonal is added to the diagonal, as in a ridge regression.

Outputs count as in `relative_error`, each relative to its own power.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from lwc.compiler.analysis.sites import macs
from lwc.compiler.core.accumulate import GRAM_FEATURES
from lwc.compiler.core.backend import Array, Session
from lwc.compiler.core.plan import Site
from lwc.compiler.core.stats import LayerStats
from lwc.compiler.search.batches import relax
from lwc.compiler.search.cut import Cuts, Part, is_fed
from lwc.compiler.search.evaluate import Workbench
from lwc.passes.edit import constant_array

Floats = NDArray[np.float64]

SAMPLES = 4
MULTIPLY_ADDS = 2e12  # of all runs of one table: beyond it, it is rounded without a Gram matrix
STEP = 0.1  # of the row's root mean square: far above float32's noise in the outputs, and still nearly linear
# Of the mean diagonal. MiniLM's table of words, error of unseen outputs after rounding with H of 4 and of 12 samples:
# 0.82 and 0.76 of nearest rounding's without, 0.75 and 0.73 with 0.3, 0.76 and 0.75 with 1.
RIDGE = 0.3
MOST_OUTPUTS = 1 << 14  # values of an output that are looked at


def row_grams(bench: Workbench, tables: Mapping[Site, ir.Node], each: Callable[[], None]) -> dict[Site, LayerStats]:
    """LayerStats with the Gram matrix [row, row] of each lookup; nothing for those that cannot be run from there on.

    each: called after every table
    """
    cuts = Cuts(bench.model, (), 1)
    found: dict[Site, LayerStats] = {}
    for site, node in tables.items():
        lookup = _lookup(bench, cuts, node)
        if lookup is not None:
            found[site] = LayerStats((None,) * len(node.inputs), (None,) * len(node.outputs), lookup.gram())
        each()
    return found


@dataclass(frozen=True, eq=False)
class _Lookup:
    """One Gather of rows. ids, rows: what it reads and gives;  width: entries of a row;  behind: all that rows reach"""

    bench: Workbench
    cuts: Cuts
    ids: ir.Value
    rows: ir.Value
    width: int
    behind: Part

    def gram(self) -> Floats:
        """H [width, width], mean over places."""
        samples = [self.bench.samples[i] for i in range(min(SAMPLES, len(self.bench.samples)))]
        alone = self.bench.target.with_threads(1)
        front = self.bench.backend.session(self.bench.model, alone, self._made(), lean=True)
        total, places, mixed = np.zeros((self.width, self.width)), 0, False
        back: Session | None = None
        for number, sample in enumerate(samples):
            known = {**sample, **front.run(sample)}
            feeds = {name: known[name] for name in self.behind.input_names}
            if back is None:
                free = {name: (None,) * array.ndim for name, array in feeds.items()}
                back = self.bench.backend.session(relax(self.cuts.submodel(self.behind), free), alone)
            fixed = constant_array(self.ids)
            ids = known[self.ids.name or ""] if fixed is None else fixed
            responses = self._responses(back, feeds, ids, np.random.default_rng(number))
            total += responses.T @ responses
            places += feeds[self.rows.name or ""].size // self.width
            mixed |= len(np.unique(ids)) > 1
        ridge = RIDGE * np.trace(total) / self.width if mixed else 0.0
        return (total + ridge * np.eye(self.width)) / max(1, places)

    def _made(self) -> list[str]:
        """What the parts need that is neither fed nor returned by the model."""
        graph = self.bench.model.graph
        ports = {value.name for value in (*graph.inputs, *graph.outputs)}
        needed = (*self.behind.inputs, *(() if self.ids.const_value is not None else (self.ids,)))
        return [value.name or "" for value in dict.fromkeys(needed) if value.name not in ports]

    def _responses(self, session: Session, feeds: Mapping[str, Array], ids: Array, rng: np.random.Generator) -> Floats:
        """J [outputs, width] of one sample, each output divided by the root of its power."""
        name = self.rows.name or ""
        value = feeds[name]
        rows = value.reshape(-1, self.width)
        step = STEP * (float(np.sqrt(np.mean(np.square(rows, dtype=np.float64)))) or 1.0)
        _, row = np.unique(ids, return_inverse=True)
        signs = (step * rng.choice((-1.0, 1.0), row.size))[row.reshape(-1)].astype(value.dtype)
        still = session.run(feeds)
        seen = {key: _seen(array, rng) for key, array in still.items() if np.issubdtype(array.dtype, np.floating)}
        columns = []
        for entry in range(self.width):
            moved = rows.copy()
            moved[:, entry] += signs
            outputs = session.run({**feeds, name: moved.reshape(value.shape)})
            changes = [(outputs[key] - still[key]).ravel()[at] * unit for key, (at, unit) in seen.items()]
            columns.append(np.concatenate(changes) if changes else np.zeros(0))
        return np.stack(columns, axis=1).astype(np.float64) / step


def _lookup(bench: Workbench, cuts: Cuts, node: ir.Node) -> _Lookup | None:
    table, ids = node.inputs
    assert table is not None
    assert table.const_value is not None
    assert ids is not None
    width = math.prod(int(size) for size in table.const_value.shape.numpy()[1:])
    behind = cuts.behind(node.outputs, cuts.index[node] + 1)
    runs = width * min(SAMPLES, len(bench.samples))
    if width > GRAM_FEATURES or runs * sum(macs(each) for each in bench.model.graph) > MULTIPLY_ADDS:
        return None
    runnable = behind.cuttable() and node.outputs[0] in behind.inputs and (ids.is_initializer() or is_fed(ids))
    return _Lookup(bench, cuts, ids, node.outputs[0], width, behind) if runnable else None


def _seen(array: Array, rng: np.random.Generator) -> tuple[NDArray[np.intp], float]:
    """Which values of an output are looked at, and what each of them is multiplied by."""
    flat = array.astype(np.float64).ravel()
    at = np.arange(flat.size) if flat.size <= MOST_OUTPUTS else np.sort(rng.choice(flat.size, MOST_OUTPUTS, False))
    power = float(np.square(flat - flat.mean()).sum()) if flat.size else 0.0
    unit = math.sqrt(flat.size / max(1, len(at)) / power) if power > 0.0 and math.isfinite(power) else 0.0
    return at, unit
