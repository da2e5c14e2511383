"""Is the order of a file within equal times an order of its own? Where two items that several users
take at one time stand in the same order for all of them, the file was sorted by something of the
items, and a model can learn that.
"""

from collections import defaultdict
from itertools import combinations

import numpy as np


def order_within_times(user: np.ndarray, item: np.ndarray, time: np.ndarray) -> dict[str, float]:
    """Rows in the order of the file: share of users whose last two events are at one time, number
    of pairs of items that two or more users take at one time, and the share of these that stand in
    one order for all users, with the share that chance would give."""
    # The file's own order decides within a time.
    order = np.lexsort((np.arange(len(user)), time, user))
    user, item, time = user[order], item[order], time[order]
    # A group is what one user takes at one time, as it stands in the file.
    starts = np.flatnonzero(np.append(True, (np.diff(user) != 0) | (np.diff(time) != 0)))
    groups = np.split(item, starts[1:])
    # The last group of each user is the one before the next user's first.
    owner = user[starts]
    is_last = np.append(np.diff(owner) != 0, True)
    tied = np.mean([len(groups[number]) > 1 for number in np.flatnonzero(is_last)])
    counts: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0])
    for group in groups:
        for first, second in combinations(group.tolist(), 2):
            counts[min(first, second), max(first, second)][first > second] += 1
    # A pair that one user alone takes says nothing.
    often = np.array([count for count in counts.values() if sum(count) > 1]).reshape(-1, 2)
    share = float((often.min(axis=1) == 0).mean()) if len(often) else 0.0
    chance = float((2 * 0.5 ** often.sum(axis=1)).mean()) if len(often) else 0.0
    return {
        "users_whose_last_two_are_at_one_time": round(float(tied), 5),
        "pairs_taken_at_one_time_by_two_or_more": len(often),
        "share_of_them_in_one_order": round(share, 5),
        "share_by_chance": round(chance, 5),
    }
