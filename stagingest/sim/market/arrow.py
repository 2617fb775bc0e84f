"""Arithmetic on Arrow columns, with the constants in it converted once.

pyarrow looks for absent libraries each time a Python number becomes a scalar, which costs more than the arithmetic.
"""

from functools import lru_cache
from hashlib import blake2b
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


def seed(*key: object) -> int:
    """A 63-bit number that stands for `key`."""
    text = "\x1f".join(map(str, key)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 1


def fraction(*key: object) -> float:
    """A number in `[0, 1)` that stands for `key`."""
    return seed(*key) / 2**63


def uniform(size: int, *key: object) -> pa.Array:
    """`size` numbers in `[0, 1)`; a longer row begins with the shorter one."""
    return pc.random(size, initializer=seed(*key))


def noise(size: int, *key: object) -> pa.Array:
    """`size` numbers with mean 0 and variance 1, nearly normal; a longer row begins with the shorter one."""
    three = [uniform(size, *key, part) for part in range(3)]
    return mul(sub(add(add(three[0], three[1]), three[2]), 1.5), 2.0)
