from __future__ import annotations

from lwc.passes.canonicalize.dimensions import (
    Product,
    add,
    broadcast,
    divide,
    equal,
    multiply,
    named,
    product,
    subtract,
)

N, M = named("N"), named("M")


def test_products_do_not_depend_on_the_order_of_factors() -> None:
    assert multiply(multiply(N, 2), M) == multiply(M, multiply(N, 2)) == Product(2, ("M", "N"))
    assert product([3, N, 2]) == Product(6, ("N",))
    assert product([]) == 1


def test_zero_times_anything_is_zero() -> None:
    assert multiply(N, 0) == 0
    assert multiply(None, 0) == 0


def test_common_factors_cancel() -> None:
    assert divide(multiply(N, 6), multiply(N, 2)) == 3
    assert divide(multiply(N, M), N) == M
    assert divide(7, 2) == 3


def test_what_does_not_cancel_is_a_symbol_of_its_own() -> None:
    assert divide(N, 2) == named("(N//2)")
    assert divide(N, 2) != divide(M, 2)
    assert divide(-1, 2) is None
    assert divide(N, 0) is None


def test_sums_are_symbols_unless_known() -> None:
    assert add(2, 3) == 5
    assert add(N, 0) == N
    assert add(N, M) == add(M, N)
    assert subtract(N, 0) == N
    assert subtract(5, 3) == 2
    assert subtract(N, M) != subtract(M, N)


def test_a_size_is_never_negative_but_a_difference_may_be() -> None:
    assert equal(N, -1) == 0
    assert equal(-1, multiply(N, 2)) == 0
    assert equal(subtract(N, M), -1) is None
    assert equal(N, 3) is None
    assert equal(N, N) == 1
    assert equal(2, 3) == 0


def test_broadcasting_keeps_what_is_known() -> None:
    assert broadcast(1, N) == N
    assert broadcast(N, N) == N
    assert broadcast(N, 5) == 5
    assert broadcast(N, M) is None


def test_unknown_stays_unknown() -> None:
    assert multiply(N, None) is None
    assert add(None, 1) is None
    assert equal(None, 1) is None


def test_texts_stay_short() -> None:
    entry = add(N, M)
    for _ in range(100):
        entry = add(entry, N)
    assert entry is None
