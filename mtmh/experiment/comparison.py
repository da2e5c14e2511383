"""A comparison of two arms, put together from a place: effects, sample ratio, segments, findings
and the verdict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mtmh.experiment.arm_effects import Deviation, check_arms, compare_arms, deviations
from mtmh.experiment.data import experiment_data
from mtmh.experiment.findings import LogFinding
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

    def of_arms(self, experiment: Experiment) -> pa.Table:
        """The user days of control and treatment."""
        arms = pa.array([experiment.control, experiment.treatment])
        return self.user_days.filter(pc.is_in(self.user_days["arm"], arms))

    def log_health(self, experiment: Experiment) -> LogHealth:
        """What the verdict needs to know of the log, of control and treatment."""
        user_days = self.of_arms(experiment)
        served = user_days.filter(pc.greater(user_days["lists"], 0))
        days = sorted(pc.unique(served["day"]).to_pylist())
        # An arm vanished when others were served after its last day.
        users, vanished = {}, {}
        for arm in (experiment.control, experiment.treatment):
            rows = user_days.filter(pc.equal(user_days["arm"], arm))
            users[arm] = pc.count_distinct(rows["user_id"]).as_py()
            last = pc.max(served.filter(pc.equal(served["arm"], arm))["day"]).as_py() or date.min
            if gone := [day for day in days if day > last]:
                vanished[arm] = str(gone[0])
        # Rows that were not used, as shares of their kind.
        findings = {finding.name: finding for finding in self.findings if finding.count}
        unusable = {
            findings[name].title: (findings[name].count, max(self.logged[of], 1))
            for name, of in UNUSABLE.items()
            if name in findings
        }
        contaminated = sum(findings[name].count for name in MISPLACED if name in findings)
        return LogHealth(len(days), users, contaminated, unusable, vanished, self.deviations)


def read_tables(folder: ExperimentFolder) -> ComparisonTables:
    """Everything about an experiment, all days of it."""
    data = experiment_data(folder)
    # How much the log has of each kind, sound or not: what the findings are shares of.
    log = folder.logged()
    experiment = folder.experiment
    counts = {
        "exposures": log.exposures.count(),
        "engagements": log.engagements.count(),
        "answers": identified(log.exposures).exposure_id.nunique(),
    }
    logged = {of: int(count.to_pyarrow().as_py()) for of, count in counts.items()}
    logged["records"] = logged["answers"] + logged["engagements"] + log.rejected.num_rows
    return ComparisonTables(
        user_days=user_days(data).to_pyarrow(),
        item_counts=item_counts(data).to_pyarrow(),
        items=pq.read_table(folder.items),
        history=pq.read_table(folder.history),
        findings=data.findings,
        logged=logged,
        deviations=deviations(data.answered, (experiment.control, experiment.treatment)),
    )


@dataclass(frozen=True)
class ArmComparison:
    """What the page, ab.json and verdict.json are written from."""

    folder: ExperimentFolder
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
        return self.folder.experiment


def compare(folder: ExperimentFolder, tables: ComparisonTables) -> ArmComparison:
    """Compare the treatment with its control. Raises UserError as `effects` does."""
    experiment = folder.experiment
    arms = (experiment.control, experiment.treatment)
    rows = tables.of_arms(experiment)
    effects, by_day = compare_arms(experiment, tables.history, rows, tables.item_counts)
    ratio, unserved = check_arms(experiment, rows)
    # Segments are made of what was known before the experiment.
    users = pc.unique(rows["user_id"])
    groups = segments(users, tables.history, tables.items, experiment.first_day)
    compared, too_small = compare_segments(rows, groups, *arms, experiment.days)
    log = tables.log_health(experiment)
    return ArmComparison(
        folder,
        days=tuple(sorted(pc.unique(rows["day"]).to_pylist())),
        effects=effects,
        by_day=by_day,
        sample_ratio=ratio,
        never_served=unserved,
        log=log,
        verdict=judge(effects, ratio, unserved, log, *arms),
        segments=compared,
        too_small=too_small,
        findings=tuple(tables.findings),
    )
