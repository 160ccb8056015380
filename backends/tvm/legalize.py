"""Relax operators into tensor expressions that our schedules know; TVM's own legalization serves the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tvm import relax

from lwc.backends.tvm.legalize_band import banded_conv2d
from lwc.backends.tvm.legalize_conv import packed_conv2d
from lwc.backends.tvm.legalize_int8 import bytes_conv2d, bytes_matmul, few_bytes
from lwc.backends.tvm.legalize_pooling import avg_pool2d, max_pool2d
from lwc.backends.tvm.legalize_product import packed_matmul
from lwc.backends.tvm.legalize_tiles import tiled_conv2d, tiled_matmul
from lwc.backends.tvm.machine import Machine

Legalization = Callable[[relax.BlockBuilder, relax.Call], relax.Expr]
Tiled = Callable[[relax.BlockBuilder, relax.Call, Machine], relax.Expr | None]

BYTES: Mapping[str, Tiled] = {"relax.matmul": bytes_matmul, "relax.nn.conv2d": bytes_conv2d}
TILED: Mapping[str, Tiled] = {"relax.matmul": tiled_matmul, "relax.nn.conv2d": tiled_conv2d}


def legalizations(machine: Machine) -> Mapping[str, Legalization]:
    """Operator name -> how it is written for this machine."""
    table: dict[str, Legalization] = {
        "relax.matmul": packed_matmul(machine),
        "relax.nn.conv2d": packed_conv2d(machine),
        "relax.nn.max_pool2d": max_pool2d,
        "relax.nn.avg_pool2d": avg_pool2d,
    }
    for name, of_bytes in BYTES.items():
        table[name] = _tiled_first(of_bytes, table[name], machine)
    if machine.tiles:
        for name, tiled in TILED.items():
            table[name] = _tiled_first(_with_many_bytes(tiled), table[name], machine)
    table["relax.nn.conv2d"] = _tiled_first(banded_conv2d, table["relax.nn.conv2d"], machine)
    return table


def _with_many_bytes(tiled: Tiled) -> Tiled:
    return lambda bb, call, machine: None if few_bytes(call) else tiled(bb, call, machine)


def _tiled_first(tiled: Tiled, other: Legalization, machine: Machine) -> Legalization:
    def legalize(bb: relax.BlockBuilder, call: relax.Call) -> relax.Expr:
        found = tiled(bb, call, machine)
        return other(bb, call) if found is None else found

    return legalize
