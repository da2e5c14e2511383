"""A comparison of two arms, put together from a place: effects, sample ratio, segments, findings and the verdict."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mtmh.experiment.arm_effects import check_arms, compare_arms
from mtmh.experiment.checks import LogFinding
from mtmh.experiment.data import experiment_data
from mtmh.experiment.deviations import Deviation, deviations
from mtmh.experiment.folder import Experiment, ExperimentFolder
from mtmh.experiment.relations import identified
from mtmh.experiment.segments import Segment, SegmentEffect, compare_segments, segments
from mtmh.experiment.statistics import Effect, NeverServed, SampleRatio
from mtmh.experiment.units import item_counts, user_days
from mtmh.experiment.verdict import LogHealth, Verdict, judge

# Findings about rows that were not used, and what they are shares of.
UNUSABLE = {
    "rejected": "records",
    "exposures_before": "exposures",
    "exposures_after": "exposures",
    "engagements_before": "engagements",
    "engagements_after": "engagements",
    "impossible_engagements": "engagements",
    "mixed_answers": "answers",
    "unknown_arm": "answers",
}
MISPLACED = ("contaminated", "misplaced")  # findings about users whose arm says nothing


@dataclass(frozen=True)
class ComparisonTables:
    """What a comparison is made of."""

    user_days: pa.Table  # USER_DAYS of mtmh/experiment/units.py
    item_counts: pa.Table  # ITEM_COUNTS
    items: pa.Table
    history: pa.Table
    findings: Sequence[LogFinding]
    logged: Mapping[str, int]  # records, exposures, engagements, answers: how many the log has
    deviations: Sequence[Deviation] = ()


def read_tables(place: ExperimentFolder) -> ComparisonTables:
    """Everything about the place's experiment, all days of it."""
    found = experiment_data(place)
    log = place.logged()
    logged = {
        "exposures": log.exposures.count(),
        "engagements": log.engagements.count(),
        "answers": identified(log.exposures).exposure_id.nunique(),
    }
    counts = {of: int(number.to_pyarrow().as_py()) for of, number in logged.items()}
    counts["records"] = counts["answers"] + counts["engagements"] + log.rejected.num_rows
    return ComparisonTables(
        user_days(found).to_pyarrow(),
        item_counts(found).to_pyarrow(),
        pq.read_table(place.items),
        pq.read_table(place.history),
        found.findings,
        counts,
        deviations(found.answered, (place.experiment.control, place.experiment.treatment)),
    )


@dataclass(frozen=True)
class ArmComparison:
    """What the page, ab.json and verdict.json are written from."""

    place: ExperimentFolder
    days: tuple[date, ...]
    effects: Sequence[Effect]
    by_day: pa.Table
    sample_ratio: SampleRatio
    never_served: NeverServed
    log: LogHealth
    verdict: Verdict
    segments: Sequence[SegmentEffect]
    too_small: Sequence[Segment]
    findings: Sequence[LogFinding]

    @property
    def experiment(self) -> Experiment:
        """What was to be done."""
        return self.place.experiment


def compare(place: ExperimentFolder, tables: ComparisonTables) -> ArmComparison:
    """Compare the place's treatment with its control. Raises UserError as `effects` does."""
    experiment = place.experiment
    both = (experiment.control, experiment.treatment)
    own = tables.user_days.filter(pc.is_in(tables.user_days["arm"], pa.array(both)))
    log = _log(own, tables, experiment)
    found, by_day = compare_arms(experiment, tables.history, own, tables.item_counts)
    ratio, unserved = check_arms(experiment, own)
    groups = segments(pc.unique(own["user_id"]), tables.history, tables.items, experiment.first_day)
    compared, too_small = compare_segments(own, groups, *both, experiment.days)
    days = tuple(sorted(pc.unique(own["day"]).to_pylist()))
    verdict = judge(found, ratio, unserved, log, *both)
    findings = tuple(tables.findings)
    return ArmComparison(place, days, found, by_day, ratio, unserved, log, verdict, compared, too_small, findings)


def _log(user_days: pa.Table, tables: ComparisonTables, experiment: Experiment) -> LogHealth:
    """What the verdict asks about the log; `user_days` are those of the two arms."""
    arms = (experiment.control, experiment.treatment)
    served = user_days.filter(pc.greater(user_days["lists"], 0))
    days = sorted(pc.unique(served["day"]).to_pylist())
    users, vanished = {}, {}
    for arm in arms:
        rows = user_days.filter(pc.equal(user_days["arm"], arm))
        users[arm] = pc.count_distinct(rows["user_id"]).as_py()
        last = pc.max(served.filter(pc.equal(served["arm"], arm))["day"]).as_py() or date.min
        if gone := [day for day in days if day > last]:
            vanished[arm] = str(gone[0])
    found = {finding.name: finding for finding in tables.findings if finding.count}
    unusable = {
        found[name].title: (found[name].count, max(tables.logged[of], 1))
        for name, of in UNUSABLE.items()
        if name in found
    }
    contaminated = sum(found[name].count for name in MISPLACED if name in found)
    return LogHealth(len(days), users, contaminated, unusable, vanished, tables.deviations)
