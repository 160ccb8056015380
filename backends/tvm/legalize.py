"""Relax operators into tensor expressions that our schedules know; TVM's own legalization serves the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tvm import relax

from lwc.backends.tvm.machine import Machine

Legalization = Callable[[relax.BlockBuilder, relax.Call], relax.Expr]


def legalizations(machine: Machine) -> Mapping[str, Legalization]:
    """Operator name -> how it is written for this machine."""
    return {}
