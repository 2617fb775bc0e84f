"""Numbers that look random and are a function of what they are for."""

from hashlib import blake2b

import pyarrow as pa
import pyarrow.compute as pc

from stagingest.sim.columns import add, mul, sub


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
