"""Treatment against control, for the dashboard and the A/B report alike: one way to every figure.

Effects, whether an arm lost users or their exposures, and answers that are not what their arm
stands for: degraded ones, and those with an alpha of the caller's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import norm

from mtmh.experiment.arms import shares
from mtmh.experiment.folder import Experiment
from mtmh.experiment.metrics import METRICS, Metric
from mtmh.experiment.statistics import (
    Effect,
    NeverServed,
    SampleRatio,
    effects,
    effects_by_day,
    never_served,
    pre_period,
    sample_ratio,
)

DEVIATIONS = {"own_alpha": "answers with an alpha of their own", "degraded": "degraded answers"}


def compare_arms(
    experiment: Experiment,
    history: Path | pa.Table,
    user_days: pa.Table,
    item_counts: pa.Table | None,
    metrics: Mapping[str, Metric] = METRICS,
) -> tuple[list[Effect], pa.Table]:
    """Effects of the experiment's treatment over all days, and at the end of each day
    (`effects_by_day`).

    history: of the experiment folder; adjusts for what users did before the experiment. Raises
    UserError as `effects` does.
    """
    tables = (user_days, item_counts, experiment.control, experiment.treatment, metrics)
    before = pre_period(history, experiment.first_day)
    return (
        effects(*tables, before=before, planned_days=experiment.days),
        effects_by_day(*tables, before=before, planned_days=experiment.days),
    )


def check_arms(experiment: Experiment, user_days: pa.Table) -> tuple[SampleRatio, NeverServed]:
    """Whether as many users were served in each arm as should have been, and whether an arm lost
    its exposures.

    Who was never served is in the arm of their bucket, and would fill the hole that lost exposures
    leave.
    """
    arms = (experiment.control, experiment.treatment)
    lists = user_days.group_by(["arm", "user_id"]).aggregate([("lists", "sum")])
    counts = []
    for compare_lists in (pc.greater, pc.equal):  # served users, then users without a list
        rows = lists.filter(compare_lists(lists["lists_sum"], 0))
        counts.append({arm: int(pc.sum(pc.equal(rows["arm"], arm)).as_py() or 0) for arm in arms})
    served, others = counts
    expected = shares(experiment.arms)
    return (
        sample_ratio(served, {arm: expected[arm] for arm in arms}),
        never_served(served, others),
    )


@dataclass(frozen=True)
class Deviation:
    """One kind of such answers in the arms that are compared."""

    name: str  # a key of DEVIATIONS
    answers: Mapping[str, tuple[int, int]]  # arm -> such answers, and all of the arm's answers
    # Of the shares' difference, with users as the units; NaN where an arm has no answers.
    p: float

    @property
    def shares(self) -> dict[str, float]:
        """Arm -> share of its answers; 0 where it has none."""
        return {
            arm: deviating / max(answers, 1) for arm, (deviating, answers) in self.answers.items()
        }


def deviations(answered: ir.Table, arms: Sequence[str]) -> tuple[Deviation, ...]:
    """Every kind of deviation, of two arms.

    answered: arm, user_id, own_alpha and degraded (bool), a row an answer. Users stay in their arm
    whatever they were answered (intention to treat): to leave out whom a failure met would leave
    out other users in one arm than in the other. So what counts is whether such answers are few,
    and alike in both arms.
    """
    sums = {name: answered[name].cast("int64").sum() for name in DEVIATIONS}
    users = answered.group_by("arm", "user_id").agg(answers=ibis._.count(), **sums).to_pyarrow()
    results = []
    for name in DEVIATIONS:
        totals, shares_of_arms, variances = {}, [], []
        for arm in arms:
            of_arm = users.filter(pc.equal(users["arm"], arm))
            deviating, answers = of_arm[name].to_numpy(), of_arm["answers"].to_numpy()
            total = int(answers.sum())
            totals[arm] = int(deviating.sum()), total
            # By the delta method: a user's answers depend on each other.
            share, variance = float("nan"), float("nan")
            if total:
                share = float(deviating.sum() / total)
                variance = float(((deviating - share * answers) ** 2).sum() / total**2)
            shares_of_arms.append(share)
            variances.append(variance)
        difference = abs(shares_of_arms[0] - shares_of_arms[1])
        error = np.sqrt(variances[0] + variances[1])
        # Without an error, equal shares are alike; p of unequal ones is not defined.
        p = 1.0 if difference == 0 else float("nan")
        if error > 0:
            p = float(2 * norm.sf(difference / error))
        results.append(Deviation(name, totals, p))
    return tuple(results)
