"""Effects of a treatment on every metric: relative lift, intervals, p values corrected for the number of metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

PLANNED_DAYS = 14


@dataclass(frozen=True)
class Effect:
    """What the treatment does to one metric. All intervals are of 95 %; NaN where there is no answer, with a reason.

    Ratio metrics are the sum of the numerator over the users of an arm / that of the denominator; with CUPED both
    arms' values are those at the same past. Set metrics (distinct views, coverage ..) are means of the daily figure.
    """

    metric: str
    control: float
    treatment: float
    lift: float  # treatment / control - 1
    lo: float  # of the lift, for those who look once, at the planned end
    hi: float
    p: float  # two-sided, of lift = 0; below 0.05 exactly when lo .. hi leaves out 0
    adjusted_p: float  # Holm over all metrics that have a p
    always_lo: float  # of the lift, valid at every look
    always_hi: float
    cuped: bool
    users: tuple[int, int]  # of control and treatment
    reason: str = ""  # why a figure is NaN, or what was left out


def effects(
    user_days: pa.Table,
    item_counts: pa.Table | None,
    control: str,
    treatment: str,
    metrics: Mapping[str, Any] | None = None,
    before: pa.Table | None = None,
    planned_days: int = PLANNED_DAYS,
) -> list[Effect]:
    """The effect on every metric over all days of the tables, in the order of `metrics`.

    user_days, item_counts: as mtmh/experiment/units.py gives them; without item_counts the set metrics are left out.
    metrics: by default METRICS of mtmh/experiment/metrics.py.
    before: the pre-period, for CUPED: user_id and some columns of user_days, one or more rows a user, summed. A metric
        whose columns are there is adjusted for the user's own figure in the pre-period; who is not in it counts 0.
    planned_days: how long the experiment was planned to run; the always-valid interval is at its tightest there.

    Raises UserError when an arm is not named in the tables' column `arm` but a similar one is, or columns are missing.
    """
    raise NotImplementedError


def effects_by_day(
    user_days: pa.Table,
    item_counts: pa.Table | None,
    control: str,
    treatment: str,
    metrics: Mapping[str, Any] | None = None,
    before: pa.Table | None = None,
    planned_days: int = PLANNED_DAYS,
) -> pa.Table:
    """What `effects` would have said at the end of each day, over the days up to it: one row a day and metric.

    Columns: day date32, metric string, and float64 control, treatment, lift, lo, hi, always_lo, always_hi.
    """
    raise NotImplementedError
