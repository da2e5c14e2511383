"""Treatment against control day by day, as the dashboard draws it: the A/B page's own numbers."""

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from monitoring.evidently.figures import table
from mtmh.experiment.arm_effects import check_arms, compare_arms
from mtmh.experiment.data import ExperimentData
from mtmh.experiment.metrics import METRICS
from mtmh.experiment.units import user_days

ENDS = ("lift", "always_lo", "always_hi")
RATIOS = {name: metric for name, metric in METRICS.items() if metric.is_ratio}


def compare(data: ExperimentData, history: Path, first: date) -> Iterator[pa.Table]:
    """Families `lift` (of: lift, always_lo, always_hi; label: a ratio metric) and `sample ratio`, from day `first` on.

    `data` begin with the experiment: a lift is of all days up to its own. The metrics over sets of items are left to
    the A/B report (mtmh ab), whose jackknife takes longer.
    """
    rows = user_days(data).to_pyarrow()
    _, by_day = compare_arms(data.experiment, history, rows, None, RATIOS)
    for day in (day for day in data.days if day >= first):
        of_day = by_day.filter(pc.equal(by_day["day"], pa.scalar(day)))
        for end in ENDS:
            values = dict(zip(of_day["metric"].to_pylist(), of_day[end].to_pylist(), strict=True))
            yield table(day, "lift", end, values)
        so_far = rows.filter(pc.less_equal(rows["day"], pa.scalar(day)))
        ratio, unserved = check_arms(data.experiment, so_far)
        yield table(day, "sample ratio", "served", {"p": ratio.p})
        yield table(day, "sample ratio", "never served", {"p": unserved.p})
