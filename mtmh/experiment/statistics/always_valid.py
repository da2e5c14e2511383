"""The always-valid interval: one that may be looked at every day, and acted on at any look.

A 95 % interval is right 95 times of 100 when it is looked at once. Who looks every day for four weeks and stops at
the first interval that leaves out 0 sees an effect where there is none about 30 times of 100. The sequence of intervals
here contains the truth at *all* looks together 95 times of 100: the asymptotic confidence sequence of Waudby-Smith,
Arbour, Sinha, Kennedy and Ramdas (2024), which has no end that must be kept to. Its price: about 1.55 times as wide.

What it needs of the clock: at an earlier look, the standard error is at most sqrt(progress now / progress then) times
that of now. Progress is counted in user days. The days of one user say less than as many days of several users, which
is on the safe side; days that say more as time goes on are not. The benchmark `aa` counts the false alarms.
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def multiplier(progress: Floats, alpha: float = 0.05) -> Floats:
    """Half the interval's width in standard errors, float64 like `progress`; inf where progress is 0.

    progress: observations so far / those planned, where the interval is at its tightest; may exceed 1. What is planned
    must be known before the first look.

    With n r = progress * c and c = -2 log(alpha) + log(1 - 2 log(alpha)), which is tightest at progress 1:
    sqrt(2 (n r + 1) / (n r) * log(sqrt(n r + 1) / alpha)).
    """
    best = -2 * np.log(alpha) + np.log1p(-2 * np.log(alpha))
    time = np.asarray(progress, np.float64) * best
    with np.errstate(divide="ignore"):
        return np.sqrt(2 * (1 + 1 / time) * np.log(np.sqrt(time + 1) / alpha))
