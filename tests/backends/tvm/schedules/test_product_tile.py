import pytest

pytest.importorskip("tvm")
from hypothesis import given
from hypothesis import strategies as st

from lwc.backends.tvm.machine import Machine
from lwc.backends.tvm.schedules.product_tile import tile
from lwc.backends.tvm.testing import NARROW
from lwc.compiler.core.target import host

EXTENTS = st.integers(1, 300)


@given(EXTENTS, EXTENTS, EXTENTS, st.booleans(), st.sampled_from([NARROW, Machine.of(host())]))
def test_a_tile_fits_registers_and_stays_within_rows_and_columns(rows, columns, depth, padded, machine) -> None:
    found = tile(machine, rows, columns, depth, padded=padded)
    assert found.rows * found.vectors + found.vectors + 1 <= machine.registers
    assert found.rows <= rows
    assert padded or found.width <= columns


def test_a_large_product_uses_most_registers() -> None:
    found = tile(NARROW, 128, 1536, 384)
    assert found.rows * found.vectors >= NARROW.registers // 2
