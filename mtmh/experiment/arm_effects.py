"""Treatment against control, for the dashboard and the A/B report alike: one way to every figure that both show."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

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


def compare_arms(
    experiment: Experiment,
    history: Path | pa.Table,
    user_days: pa.Table,
    item_counts: pa.Table | None,
    metrics: Mapping[str, Metric] = METRICS,
) -> tuple[list[Effect], pa.Table]:
    """Effects of the experiment's treatment over all days, and at the end of each day (`effects_by_day`).

    history: of the place; adjusts for what users did before the experiment. Raises UserError as `effects` does.
    """
    tables = (user_days, item_counts, experiment.control, experiment.treatment, metrics)
    before = pre_period(history, experiment.first_day)
    return (
        effects(*tables, before=before, planned_days=experiment.days),
        effects_by_day(*tables, before=before, planned_days=experiment.days),
    )


def check_arms(experiment: Experiment, user_days: pa.Table) -> tuple[SampleRatio, NeverServed]:
    """Whether as many users were served in each arm as should have been, and whether an arm lost its exposures.

    Who was never served is in the arm of their bucket, and would fill the hole that lost exposures leave.
    """
    arms = (experiment.control, experiment.treatment)
    lists = user_days.group_by(["arm", "user_id"]).aggregate([("lists", "sum")])
    counts = {}
    for name, rows in (
        ("served", lists.filter(pc.greater(lists["lists_sum"], 0))),
        ("others", lists.filter(pc.equal(lists["lists_sum"], 0))),
    ):
        counts[name] = {arm: int(pc.sum(pc.equal(rows["arm"], arm)).as_py() or 0) for arm in arms}
    dealt = shares(experiment.arms)
    return (
        sample_ratio(counts["served"], {arm: dealt[arm] for arm in arms}),
        never_served(counts["served"], counts["others"]),
    )
