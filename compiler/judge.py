"""What the held-out samples say of a session: its accuracy against the budget, and its fidelity."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass

from lwc.compiler.core.backend import Session
from lwc.compiler.core.report import Accuracy, OutputFidelity
from lwc.compiler.measure import FidelityMeter, Scores, accuracy, score
from lwc.compiler.metrics import Outputs
from lwc.compiler.prepare import Prepared
from lwc.compiler.search.interval import Verdict, stated, verdict_of


@dataclass(frozen=True)
class Judge:
    """Scores sessions on the held-out samples against the original's outputs."""

    prepared: Prepared
    max_drop: float
    seed: int

    @functools.cached_property
    def original(self) -> Scores:
        """The original's scores, from the outputs it gave before."""
        outputs = self.prepared.originals["held_out"]
        return score(self.prepared.metric, outputs, self.prepared.held_out, outputs.__getitem__)

    def judge(self, session: Session) -> tuple[Accuracy, dict[str, OutputFidelity]]:
        """Accuracy with the 95 % interval of its drop and what that says of the budget, and fidelity per output."""
        meter = FidelityMeter()
        originals = self.prepared.originals["held_out"]
        compiled = score(
            self.prepared.metric, self._metered(session, meter), self.prepared.held_out, originals.__getitem__
        )
        judged = accuracy(self.prepared.metric, self.original, compiled, self.max_drop, self.seed)
        return stated(judged, len(self.prepared.held_out), self._unread()), meter.result()

    def holds(self, session: Session) -> bool:
        """Whether the drop on the held-out samples is within the budget."""
        return self.judge(session)[0].held

    def verdict(self, session: Session) -> Verdict:
        """Whether the 95 % interval of the drop lies within the budget, beyond it, or straddles it."""
        judged = self.judge(session)[0]
        return verdict_of(judged, judged.samples, self._unread())

    def _unread(self) -> int:
        """Samples that the user's source holds and --samples left out."""
        calibration = self.prepared.calibration
        return len(calibration.store) - len(calibration.fingerprints) if calibration.source == "user" else 0

    def _metered(self, session: Session, meter: FidelityMeter) -> Iterator[Outputs]:
        for original, sample in zip(self.prepared.originals["held_out"], self.prepared.held_out, strict=True):
            outputs = session.run(sample)
            meter.update(original, outputs)
            yield outputs
