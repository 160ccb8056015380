"""Arithmetic on dimensions whose numbers are not known at compile time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

LONGEST_TEXT = 120


@dataclass(frozen=True)
class Product:
    """coefficient * atoms[0] * atoms[1] ...; equal products are equal numbers.

    atoms: sorted names of dimensions, or, in parentheses, texts of what is no product. There is at least one.
    """

    coefficient: int
    atoms: tuple[str, ...]

    def __str__(self) -> str:
        return "*".join((*([str(self.coefficient)] if self.coefficient != 1 else []), *self.atoms))

    @property
    def is_size(self) -> bool:
        """Whether it cannot be negative: a product of dimensions."""
        return self.coefficient >= 0 and not any(atom.startswith("(") for atom in self.atoms)


# A number, a product with unknown factors, or nothing known.
Entry = int | Product | None


def named(name: str) -> Product:
    """The dimension of that name."""
    return Product(1, (name,))


def product(entries: Iterable[Entry]) -> Entry:
    """The product of all; one for none."""
    total: Entry = 1
    for entry in entries:
        total = multiply(total, entry)
    return total


def multiply(x: Entry, y: Entry) -> Entry:
    if x is None or y is None:
        return 0 if x == 0 or y == 0 else None
    a, b = _factors(x), _factors(y)
    return _entry(a.coefficient * b.coefficient, a.atoms + b.atoms)


def divide(x: Entry, y: Entry) -> Entry:
    """x / y rounded down, for sizes."""
    if x is None or y is None or y == 0:
        return None
    a, b = _factors(x), _factors(y)
    left = Counter(a.atoms)
    left.subtract(b.atoms)
    if min(left.values(), default=0) >= 0 and a.coefficient % b.coefficient == 0:
        return _entry(a.coefficient // b.coefficient, tuple(left.elements()))
    if isinstance(x, int) and isinstance(y, int):
        return x // y if x >= 0 and y > 0 else None
    return _opaque(f"({x}//{y})")


def add(x: Entry, y: Entry) -> Entry:
    if isinstance(x, int) and isinstance(y, int):
        return x + y
    if x == 0 or y == 0:
        return y if x == 0 else x
    return None if x is None or y is None else _opaque("({}+{})".format(*sorted((str(x), str(y)))))


def subtract(x: Entry, y: Entry) -> Entry:
    if isinstance(x, int) and isinstance(y, int):
        return x - y
    if y == 0:
        return x
    return None if x is None or y is None else _opaque(f"({x}-{y})")


def equal(x: Entry, y: Entry) -> Entry:
    """1 or 0 where that is certain; a size is never negative."""
    if x is None or y is None:
        return None
    if (isinstance(x, int) and isinstance(y, int)) or x == y:
        return int(x == y)
    symbol, number = (x, y) if isinstance(x, Product) else (y, x)
    never = isinstance(symbol, Product) and symbol.is_size and isinstance(number, int) and number < 0
    return 0 if never else None


def broadcast(x: Entry, y: Entry) -> Entry:
    """The dimension that two dimensions broadcast to."""
    if x == 1 or y == 1:
        return y if x == 1 else x
    if x == y:
        return x
    return next((e for e in (x, y) if isinstance(e, int)), None)


def _factors(entry: int | Product) -> Product:
    return entry if isinstance(entry, Product) else Product(entry, ())


def _entry(coefficient: int, atoms: tuple[str, ...]) -> Entry:
    return Product(coefficient, tuple(sorted(atoms))) if atoms and coefficient else coefficient


def _opaque(text: str) -> Entry:
    """Kept short, so that chains stay linear."""
    return named(text) if len(text) <= LONGEST_TEXT else None
