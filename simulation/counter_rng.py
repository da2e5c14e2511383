"""Random numbers by name: each depends on the seed and on what it is for, and on nothing drawn
before it.

So what chance brings a user on a day is the same whoever serves the list, in any arm and beside any
other users: two simulations differ where their answers differ, and nowhere else.
"""

from typing import cast

import numpy as np
from scipy.special import ndtri

# splitmix64's own constant: 2^64 divided by the golden ratio.
_STEP = np.uint64(0x9E3779B97F4A7C15)


def uniform(seed: int, purpose: str, *names: np.ndarray | int) -> np.ndarray:
    """Uniform in (0, 1), float64, one for each combination of `names` (integers >= 0, broadcast
    together)."""
    start = int.from_bytes(purpose.encode()[:8].ljust(8, b" "), "little") ^ seed
    state = _mixed(np.full(np.broadcast_shapes(*map(np.shape, names)), start, np.uint64))
    for name in names:
        state = _mixed(state ^ np.asarray(name).astype(np.uint64))
    # A float64 holds 53 of the 64 bits; the half keeps out 0, which has no logarithm.
    return (np.right_shift(state, np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normal(seed: int, purpose: str, *names: np.ndarray | int) -> np.ndarray:
    """Standard normal, float64; arguments as of `uniform`."""
    return cast(np.ndarray, ndtri(uniform(seed, purpose, *names)))


def _mixed(state: np.ndarray) -> np.ndarray:
    """splitmix64 (Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):  # arithmetic mod 2^64
        state = state + _STEP
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))
