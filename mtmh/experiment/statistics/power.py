"""Before an experiment starts: how small an effect it would find, and how many users a given effect
takes.

Both come from how much users differed in an earlier log over as many days, by tea-tasting's power
of the two-sided test that `effects` makes at its planned end, CUPED included.
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
from mtmh.experiment.statistics.comparison import past_of, winsorized
from mtmh.experiment.statistics.contrast import (
    FEWEST_FOR_CUPED,
    NO_SPREAD,
    SIGNIFICANCE,
    multiplier,
)
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

    user_days: of one earlier arm, or of users without an experiment. users: how many come in both
    arms together, by default as many as here. lift: the relative effect that is hoped for. share:
    of the users in the treatment, above 0 and below 1. before: as `effects` takes it.

    Set metrics have no power here: their spread does not simply fall with the number of users.
    Raises UserError for a share, a power or a lift that cannot be, or less than four users.
    """
    if not (0 < share < 1 and 0 < power < 1 and lift > -1 and lift != 0):
        raise UserError(
            "share and power must lie between 0 and 1 and lift be above -1 and not 0; found share "
            f"{share}, power {power}, lift {lift}."
        )
    ratios = {name: metric for name, metric in metrics.items() if metric.is_ratio}
    columns = {metric.numerator for metric in ratios.values()}
    columns |= {metric.denominator for metric in ratios.values()}
    days = pc.unique(user_days["day"])
    days = days.take(pc.array_sort_indices(days))
    logged = len(pc.unique(user_days["user_id"]))
    planned = logged if users is None else users
    if min(logged, planned) < 4:
        raise UserError(
            f"power takes at least four users, in the log and in the plan; found {logged} and "
            f"{planned}."
        )
    names = sorted(name for name in columns if name)
    (all_users,) = looks([user_days], days, names, before, winsorized(ratios.values()))
    # The figures at the last look, as plain numbers.
    running = all_users.aggregates
    sums = Aggregates(
        count_=logged,
        mean_={name: float(values[-1]) for name, values in running.mean_.items()},
        var_={name: float(values[-1]) for name, values in running.var_.items()},
        cov_={pair: float(values[-1]) for pair, values in running.cov_.items()},
    )
    return [
        _power(metric, sums, len(days), planned, lift, share, power, past_of(metric, before))
        for metric in ratios.values()
    ]


def _power(
    metric: Metric,
    sums: Aggregates,
    days: int,
    users: int,
    lift: float,
    share: float,
    power: float,
    past: tuple[str, str | None] | None,
) -> Power:
    """`power` of one metric, from the `sums` of all users over `days`."""
    numerator, denominator = metric.numerator or "", metric.denominator
    nan = float("nan")
    if denominator and not sums.mean(denominator) > 0:
        reason = f"{denominator.replace('_', ' ')} is 0 in the log: no ratio"
        return Power(metric.name, nan, nan, nan, nan, False, reason)
    ratio = sums.mean(numerator) / sums.mean(denominator)
    baseline = ratio / (1 if denominator else days)
    if not ratio > 0:
        reason = "0 in the log: there is no relative effect"
        return Power(metric.name, baseline, nan, nan, nan, False, reason)
    variance = max(sums.ratio_var(numerator, denominator), 0)
    if not np.sqrt(variance / sums.count()) > NO_SPREAD * ratio:
        return Power(metric.name, baseline, nan, nan, nan, False, "the same for every user")
    cuped = past is not None and sums.count() >= 2 * FEWEST_FOR_CUPED and sums.ratio_var(*past) > 0
    test = RatioOfMeans(
        numerator,
        denominator,
        *(past if past is not None and cuped else (None, None)),
        use_t=False,  # Student's law has no answer where the solver tries three users
        alpha=SIGNIFICANCE,
        ratio=share / (1 - share),
        power=power,
    )
    # Solved twice: for the effect that these users show, and for the users that this effect takes.
    test.n_obs = users
    detectable = test.solve_power_from_aggregates(sums, "rel_effect_size")[0].rel_effect_size
    test.n_obs, test.rel_effect_size = None, lift
    needed = test.solve_power_from_aggregates(sums, "n_obs")[0].n_obs
    # Looking every day, the interval is wider by the always-valid one's multiplier.
    always = multiplier(np.ones(1))[0] + norm.ppf(power)
    wider = always / (norm.ppf(1 - SIGNIFICANCE / 2) + norm.ppf(power))
    return Power(
        metric.name,
        baseline,
        float(detectable),
        float(detectable * wider),
        float(needed),
        cuped,
    )
