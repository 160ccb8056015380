"""What recovery gives back to the digits models when half of their channels leave by magnitude alone.

    python tests/benchmarks/recover.py [--seconds 20] [--everything] [KIND ...]

Every group loses the half of its channels with the smallest weights, and nothing takes over their work. 300 of the
test images without their labels are what is learned from, accuracy is that of the 299 others.
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray

from lwc import backends
from lwc.compiler.analysis.channels import Group, find_channels
from lwc.compiler.analysis.shapes import infer_shapes
from lwc.compiler.core.model import Model
from lwc.compiler.core.pass_ import PassContext
from lwc.compiler.core.plan import Plan, Pruned, Site
from lwc.compiler.core.target import find_target
from lwc.compiler.prepare import clean_model
from lwc.compiler.recover.api import recover
from lwc.compiler.recover.settings import Settings
from lwc.models import digits
from lwc.passes.sparsity.prune_channels import PruneChannels

LEARNED_FROM = 300


def weakest_half(model: Model, group: Group) -> tuple[int, ...]:
    """The channels whose weights, of makers and readers, have the least sum of squares."""
    worth: NDArray[np.float64] = np.zeros(group.size)
    for slot in (*group.producers, *group.consumers):
        tensor = model.graph.initializers[slot.value].const_value
        assert tensor is not None
        rows = np.moveaxis(tensor.numpy(), slot.axis, 0).reshape(tensor.shape[slot.axis], -1)
        worth += np.square(rows, dtype=np.float64).sum(1)[slot.positions].sum(1)
    return tuple(sorted(np.argsort(worth)[: group.size // 2].tolist()))


def accuracy(model: Model, samples: list[digits.Sample]) -> float:
    session = backends.get(backends.REFERENCE).session(model, find_target("host"))
    images, labels = (np.concatenate([np.atleast_1d(sample[name]) for sample in samples]) for name in ("x", "label"))
    (scores,) = session.run({"x": images}).values()
    return float((scores.argmax(-1) == labels).mean())


def measure(kind: digits.Kind, seconds: float, everything: bool) -> str:
    target = find_target("host")
    teacher, _ = clean_model(Model.open(digits.path(kind)), target)
    channels = find_channels(teacher.ir)
    removed: dict[Site, tuple[int, ...]] = {g.site: weakest_half(teacher, g) for g in channels.groups if g.size > 1}
    student = teacher.fork()
    plan = Plan({site: Pruned(numbers) for site, numbers in removed.items()})
    PruneChannels().run(student.ir, PassContext(target, plan))
    infer_shapes(student.ir)
    unseen = digits.unseen()
    samples = [unseen[k] for k in np.random.default_rng(0).permutation(len(unseen))]
    found = recover(
        student, teacher, samples[:LEARNED_FROM], seconds / 60,
        scores=[value.name or "" for value in teacher.graph.outputs], keep=channels.keep(removed),
        settings=Settings(everything=everything),
    )  # fmt: skip
    numbers = (accuracy(model, samples[LEARNED_FROM:]) for model in (teacher, student, found.model))
    sizes = f"{teacher.parameters()} -> {student.parameters()}"
    return f"| {kind} | {sizes} | {' | '.join(f'{number:.3f}' for number in numbers)} | {found.seconds:.0f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", default=digits.KINDS, metavar="KIND")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--everything", action="store_true")
    given = parser.parse_args()
    print("| model | parameters | accuracy | pruned | recovered | s |\n|---|---|---|---|---|---|")
    for kind in given.kinds:
        print(measure(kind, given.seconds, given.everything), flush=True)


if __name__ == "__main__":
    main()
