"""The days of a place, one by one: figures, snapshots in an Evidently workspace, a dashboard, broken bounds."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from monitoring.evidently import daily, drift
from monitoring.evidently.bounds import Bounds, Broken, broken, retraining
from monitoring.evidently.drift import DriftSample
from monitoring.evidently.features import statistics_by_day
from monitoring.evidently.figures import FIGURES, table, tables
from monitoring.evidently.lifts import compare
from monitoring.evidently.reference import Reference, load_reference
from mtmh.data.files import write_parquet
from mtmh.experiment.data import ExperimentData, experiment_data
from mtmh.experiment.folder import ExperimentFolder
from mtmh.experiment.relations import once
from mtmh.exposures.read import LogRelations

WORKSPACE, KEPT = "workspace", "figures.parquet"


@dataclass(frozen=True)
class Monitored:
    """What came of it."""

    project: str  # its id in the workspace
    days: list[date]
    figures: pa.Table  # monitoring.evidently.figures.FIGURES
    broken: list[Broken]
    retrain: list[Broken]  # those of them that raise a retraining run
    notes: list[str]  # what could not be measured, and why

    def told(self) -> list[str]:
        """What to say about it, a line each: notes, and the figures outside of their bounds."""
        days = f"{self.days[0]} to {self.days[-1]}" if len(self.days) > 1 else str(self.days[0])
        outside = f"{len(self.broken)} outside of their bounds" if self.broken else "all within their bounds"
        return [f"{days}: {len(self.figures):,} figures, {outside}", *self.notes, *map(str, self.broken)]


def monitor(
    place: ExperimentFolder, out: Path, bounds: Bounds, first: date | None = None, last: date | None = None
) -> Monitored:
    """Monitor the days `first` to `last` of a place (by default: all of them).

    Leaves `out`/workspace (Evidently's) and `out`/figures.parquet, in which days that were monitored before stay, and
    the same days are replaced. Raises UserError when the days are not the experiment's.
    """
    from monitoring.evidently import dashboard, snapshots

    read = experiment_data(place, first, last)
    whole = read if read.first == place.experiment.first_day else experiment_data(place, None, read.last)
    figures, compared, notes = _measured(place, read, whole)
    workspace, project = snapshots.open_project(out / WORKSPACE, place)
    days = []
    for day in read.days:
        of_day = figures.filter(pc.equal(figures["day"], pa.scalar(day)))
        for arm in _arms(of_day):
            snapshot = snapshots.arm_snapshot(of_day, compared.get((day, arm)), bounds, day, arm)
            snapshots.keep(workspace, project, snapshot, day, arm)
            of_day = tables([of_day, snapshots.drift_of(snapshot, day, arm)])
        of_day = tables([of_day, _counted(of_day, bounds, day)])
        snapshots.keep(workspace, project, snapshots.day_snapshot(of_day, bounds, day), day, "all arms")
        days.append(of_day)
    found = tables(days)
    dashboard.draw(workspace, project, _keep(found, read.days, out / KEPT), place, whole.findings)
    outside = broken(found, bounds)
    return Monitored(str(project.id), read.days, found, outside, retraining(outside, bounds), notes)


def _measured(
    place: ExperimentFolder, read: ExperimentData, whole: ExperimentData
) -> tuple[pa.Table, dict[tuple[date, str], DriftSample], list[str]]:
    """Every figure that we compute ourselves, what Evidently is to compare for each day and arm, and notes.

    `whole` has the days of `read`, and those before them from the experiment's first on.
    """
    log = place.logged()
    exposures = daily.logged_by_arms(read, log)
    engagements = once(log.engagements)
    engagements = engagements.filter(engagements.day.between(read.first, read.last))
    length = exposures.position.max().as_scalar().to_pyarrow().as_py() or 0
    reference, notes = load_reference(place, length)
    parts = [
        *daily.online(read),
        *compare(whole, place.history, read.first),
        *daily.freshness(read),
        *daily.heads(read, exposures),
    ]
    parts += daily.quality(read, log)
    parts.append(table(read.last, "findings", "log", {one.name: one.count for one in whole.findings}))
    if reference is None:
        return tables(parts), {}, notes
    parts += [*drift.unknown(reference, exposures), *drift.embeddings(reference, exposures, engagements)]
    return tables(parts), dict(_compared(place, read, reference, log)), notes


def _compared(
    place: ExperimentFolder, read: ExperimentData, reference: Reference, log: LogRelations
) -> Iterator[tuple[tuple[date, str], DriftSample]]:
    """The sampled impressions of each day and arm beside the evaluated lists of the arm."""
    sampled = drift.sample(daily.logged_by_arms(read, log))
    now = statistics_by_day(place, once(log.engagements), reference.item_id, read.first, read.last)
    then = {}
    for arm, listed in reference.listed.items():
        few = listed.take(np.random.default_rng(0).permutation(len(listed))[: drift.SAMPLE])
        row, head, score = (np.asarray(few[name]) for name in ("item", "head", "score"))
        then[arm] = drift.columns(row, head, score, reference.features, reference.topic)
    for number, day in enumerate(read.days):
        features = {name: now[name][number] for name in reference.features}
        for arm, lists in then.items():
            rows = sampled[(sampled["day"] == day) & (sampled["arm"] == arm)]
            row = reference.rows(pa.array(rows["item_id"], pa.string()))
            head, score = rows["head"].to_numpy(), rows["score"].to_numpy()
            yield (day, arm), DriftSample(drift.columns(row, head, score, features, reference.topic), lists)


def _arms(of_day: pa.Table) -> list[str]:
    return sorted(set(of_day.filter(pc.equal(of_day["family"], "online"))["of"].to_pylist()))


def _counted(of_day: pa.Table, bounds: Bounds, day: date) -> pa.Table:
    """How many bounds of each family the day's figures break."""
    outside = [one.family for one in broken(of_day, bounds)]
    return table(day, "bounds", "all arms", {family: outside.count(family) for family in bounds.bounds})


def _keep(found: pa.Table, days: list[date], path: Path) -> pa.Table:
    """Add the figures to those of other days that are kept at `path`."""
    if path.is_file():
        before = pq.read_table(path, schema=FIGURES)
        found = tables([before.filter(pc.invert(pc.is_in(before["day"], pa.array(days)))), found])
    found = found.sort_by("day")
    write_parquet(found, path)
    return found
