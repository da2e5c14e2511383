"""The global time split: T1 to learn from, T2 to be judged on (paper section 6)."""

import numpy as np

from mtmh.errors import UserError


def split_time(timestamps: np.ndarray, test_fraction: float) -> np.datetime64:
    """The first moment of T2: the `1 - test_fraction` quantile of the events' times.

    `timestamps` is datetime64 [events] in ascending order. Events at one moment stay on one side: T2 is everything at
    the returned time or later. T1 is never empty. Raises UserError when all events happened at the same moment.
    """
    first, last = timestamps[0], timestamps[-1]
    if first == last:
        raise UserError(
            f"all {len(timestamps):,} engagements happened at the same time ({first}Z): there is no earlier and later"
            " to split them by. Give the column timestamp its real values."
        )
    chosen = timestamps[min(int((1.0 - test_fraction) * len(timestamps)), len(timestamps) - 1)]
    return (
        chosen if chosen > first else timestamps[np.searchsorted(timestamps, first, side="right")]
    )


def split(
    timestamps: np.ndarray, test_fraction: float, validation_fraction: float | None
) -> tuple[int, np.datetime64]:
    """How many of the ascending events to keep, and the split time among these.

    With a `validation_fraction`, everything from T2 on is dropped, and the last part of T1 takes T2's place: tuning
    sees T1 alone. Raises UserError as `split_time` does.
    """
    cut = split_time(timestamps, test_fraction)
    if validation_fraction is None:
        return len(timestamps), cut
    kept = int(np.searchsorted(timestamps, cut))
    return kept, split_time(timestamps[:kept], validation_fraction)
