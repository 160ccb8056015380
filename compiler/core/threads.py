"""Threads of NumPy's products and solvers, for work that takes turns with a runtime's.

A BLAS keeps its threads looking for the next product for some milliseconds, and a runtime its own for the next run:
where the two alternate, each waits for cores that the other holds. On two cores, layers solved in order take 5.1 s
with two BLAS threads and 2.0 s with one (digits_cnn, half of its channels gone); beside other processes more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Products and solvers within use the calling thread alone."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield
