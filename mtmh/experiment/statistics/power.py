"""Before an experiment starts: how small an effect it would find, and how many users a given effect takes.

Both come from how much users differed in an earlier log over as many days, by tea-tasting's power of the two-sided test
that `effects` makes at its planned end, CUPED included.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import norm
from tea_tasting.aggr import Aggregates
from tea_tasting.metrics import RatioOfMeans

from mtmh.errors import UserError
from mtmh.experiment.metrics import METRICS, Metric
from mtmh.experiment.statistics.always_valid import multiplier
from mtmh.experiment.statistics.comparison import past_of, winsorized
from mtmh.experiment.statistics.contrast import FEWEST_FOR_CUPED, NO_SPREAD, SIGNIFICANCE
from mtmh.experiment.statistics.moments import looks


@dataclass(frozen=True)
class Power:
    """What an experiment can find in one metric; NaN where there is no answer, with a reason."""

    metric: str
    baseline: float  # the metric in the earlier log
    detectable: float  # relative lift that is found with the wanted power, looking once at the end
    detectable_always: float  # the same for those who look every day, at the planned end
    users_needed: float  # both arms together, to find the wanted lift looking once
    cuped: bool
    reason: str = ""


def power(
    user_days: pa.Table,
    users: int | None = None,
    lift: float = 0.01,
    share: float = 0.5,
    power: float = 0.8,
    metrics: Mapping[str, Metric] = METRICS,
    before: pa.Table | None = None,
) -> list[Power]:
    """Power for each ratio metric of an experiment as long as `user_days`, and on users like these.

    user_days: of one earlier arm, or of users without an experiment. users: how many come in both arms together, by
    default as many as here. lift: the relative effect that is hoped for. share: of the users in the treatment, above 0
    and below 1. before: as `effects` takes it.

    Set metrics have no power here: their spread does not simply fall with the number of users.
    Raises UserError for a share, a power or a lift that cannot be, or less than four users.
    """
    if not (0 < share < 1 and 0 < power < 1 and lift > -1 and lift != 0):
        raise UserError(
            f"share and power must lie between 0 and 1 and lift be above -1 and not 0; found share {share}, power "
            f"{power}, lift {lift}."
        )
    ratios = {name: metric for name, metric in metrics.items() if metric.is_ratio}
    columns = sorted({column for each in ratios.values() for column in (each.numerator, each.denominator) if column})
    days = pc.unique(user_days["day"])
    days = days.take(pc.array_sort_indices(days))
    there = len(pc.unique(user_days["user_id"]))
    planned = there if users is None else users
    if min(there, planned) < 4:
        raise UserError(f"power takes at least four users, in the log and in the plan; found {there} and {planned}.")
    (all_users,) = looks([user_days], days, columns, before, winsorized(ratios.values()))
    sums = _last(all_users.aggregates, there)
    return [
        _of_metric(metric, sums, len(days), planned, lift, share, power, past_of(metric, before))
        for metric in ratios.values()
    ]


def _last(aggregates: Aggregates, users: int) -> Aggregates:
    """The figures at the last look, as plain numbers."""
    return Aggregates(
        count_=users,
        mean_={name: float(values[-1]) for name, values in aggregates.mean_.items()},
        var_={name: float(values[-1]) for name, values in aggregates.var_.items()},
        cov_={names: float(values[-1]) for names, values in aggregates.cov_.items()},
    )


def _of_metric(
    metric: Metric,
    sums: Aggregates,
    days: int,
    users: int,
    lift: float,
    share: float,
    power: float,
    past: tuple[str, str | None] | None,
) -> Power:
    numerator, denominator, nan = metric.numerator or "", metric.denominator, float("nan")
    if denominator and not sums.mean(denominator) > 0:
        return Power(
            metric.name, nan, nan, nan, nan, False, f"{denominator.replace('_', ' ')} is 0 in the log: no ratio"
        )
    baseline = sums.mean(numerator) / sums.mean(denominator)
    told = baseline / (1 if denominator else days)
    if not baseline > 0:
        return Power(metric.name, told, nan, nan, nan, False, "0 in the log: there is no relative effect")
    if not np.sqrt(max(sums.ratio_var(numerator, denominator), 0) / sums.count()) > NO_SPREAD * baseline:
        return Power(metric.name, told, nan, nan, nan, False, "the same for every user")
    cuped = past is not None and sums.count() >= 2 * FEWEST_FOR_CUPED and sums.ratio_var(*past) > 0
    asked = RatioOfMeans(
        numerator,
        denominator,
        *(past if past is not None and cuped else (None, None)),
        use_t=False,  # Student's law has no answer on the way there, where the solver tries three users
        alpha=SIGNIFICANCE,
        ratio=share / (1 - share),
        power=power,
    )
    asked.n_obs = users
    detectable = asked.solve_power_from_aggregates(sums, "rel_effect_size")[0].rel_effect_size
    asked.n_obs, asked.rel_effect_size = None, lift
    needed = asked.solve_power_from_aggregates(sums, "n_obs")[0].n_obs
    wider = (multiplier(np.ones(1))[0] + norm.ppf(power)) / (norm.ppf(1 - SIGNIFICANCE / 2) + norm.ppf(power))
    return Power(metric.name, told, float(detectable), float(detectable * wider), float(needed), cuped)
