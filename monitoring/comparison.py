"""Treatment against control, as it looked at the end of each day."""

from collections.abc import Iterator
from datetime import date

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from monitoring.figures import table
from mtmh.experiment.arms import shares
from mtmh.experiment.facts import Facts
from mtmh.experiment.statistics import effects_by_day, sample_ratio
from mtmh.experiment.units import user_days

ENDS = ("lift", "always_lo", "always_hi")


def compare(facts: Facts, first: date) -> Iterator[pa.Table]:
    """Families `lift` (of: lift, always_lo, always_hi; label: a ratio metric) and `sample ratio`, from day `first` on.

    `facts` begin with the experiment: a lift is of all days up to its own. The metrics over sets of items are left to
    the A/B report (mtmh ab), whose jackknife takes longer.
    """
    experiment = facts.experiment
    rows = user_days(facts).to_pyarrow()
    arms = (experiment.control, experiment.treatment)
    effects = effects_by_day(rows, None, *arms, planned_days=experiment.days)
    for day in (day for day in facts.days if day >= first):
        of_day = effects.filter(pc.equal(effects["day"], pa.scalar(day)))
        for end in ENDS:
            values = dict(zip(of_day["metric"].to_pylist(), of_day[end].to_pylist(), strict=True))
            yield table(day, "lift", end, values)
        yield table(day, "sample ratio", "users", {"p": _sample_ratio(rows, facts, day)})


def _sample_ratio(rows: pa.Table, facts: Facts, day: date) -> float:
    """p of the users by arm that were there up to the end of `day`; NaN while there are none."""
    so_far = rows.filter(pc.less_equal(rows["day"], pa.scalar(day)))
    users = so_far.group_by("arm").aggregate([("user_id", "count_distinct")])
    counts = dict(zip(users["arm"].to_pylist(), users["user_id_count_distinct"].to_pylist(), strict=True))
    return sample_ratio(counts, shares(facts.experiment.arms)).p if counts else float(np.nan)
