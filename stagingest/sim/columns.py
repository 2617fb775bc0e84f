"""Arithmetic on Arrow columns, with the constants in it converted once.

pyarrow looks for absent libraries each time a Python number becomes a scalar, which costs more than the arithmetic.
"""

from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


@lru_cache(maxsize=4096, typed=True)
def constant(value: float | str) -> pa.Scalar:
    """The scalar of a Python value."""
    return pa.scalar(value)


def _operand(value: Any) -> Any:
    return constant(value) if isinstance(value, (int, float)) else value


def add(left: Any, right: Any) -> pa.Array:
    """`left + right`, each a column or a number."""
    return pc.add(_operand(left), _operand(right))


def sub(left: Any, right: Any) -> pa.Array:
    """`left - right`, each a column or a number."""
    return pc.subtract(_operand(left), _operand(right))


def mul(left: Any, right: Any) -> pa.Array:
    """`left * right`, each a column or a number."""
    return pc.multiply(_operand(left), _operand(right))


def div(left: Any, right: Any) -> pa.Array:
    """`left / right`, each a column or a number; whole numbers are divided without rest."""
    return pc.divide(_operand(left), _operand(right))


def at_least(values: pa.Array, floor: Any) -> pa.Array:
    """`values`, and `floor` where they are below it."""
    return pc.max_element_wise(values, _operand(floor))


def whole(values: pa.Array) -> pa.Array:
    """`values` rounded down, as int64."""
    return pc.cast(pc.floor(values), pa.int64())


def real(values: pa.Array) -> pa.Array:
    """`values` as doubles."""
    return pc.cast(values, pa.float64())
