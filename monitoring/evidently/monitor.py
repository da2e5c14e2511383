"""The days of an experiment: figures, snapshots in an Evidently workspace, a dashboard, broken
bounds.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from monitoring.evidently import daily, drift
from monitoring.evidently.bounds import Bounds, Broken, broken, retraining
from monitoring.evidently.drift import DriftSample
from monitoring.evidently.figures import FIGURES, table, tables
from monitoring.evidently.reference import load_reference
from mtmh.data.files import write_parquet
from mtmh.experiment.data import ExperimentData, experiment_data
from mtmh.experiment.folder import ExperimentFolder
from mtmh.experiment.relations import once

WORKSPACE = "workspace"
FIGURES_FILE = "figures.parquet"


@dataclass(frozen=True)
class Monitored:
    """The result of monitoring some days."""

    project: str  # its id in the workspace
    days: list[date]
    figures: pa.Table  # monitoring.evidently.figures.FIGURES
    broken: list[Broken]
    retrain: list[Broken]  # the broken ones that raise a retraining run
    notes: list[str]  # what could not be measured, and why

    def summary(self) -> list[str]:
        """A line each: how many figures, notes, and the figures outside of their bounds."""
        days = str(self.days[0])
        if len(self.days) > 1:
            days = f"{self.days[0]} to {self.days[-1]}"
        outside = "all within their bounds"
        if self.broken:
            outside = f"{len(self.broken)} outside of their bounds"
        broken_bounds = map(str, self.broken)
        return [f"{days}: {len(self.figures):,} figures, {outside}", *self.notes, *broken_bounds]


def monitor(
    folder: ExperimentFolder,
    out: Path,
    bounds: Bounds,
    first: date | None = None,
    last: date | None = None,
) -> Monitored:
    """Monitor the days `first` to `last` of an experiment (by default: all of them).

    Leaves `out`/workspace (Evidently's) and `out`/figures.parquet, in which days that were
    monitored before stay, and the same days are replaced. Raises UserError when the days are not
    the experiment's.
    """
    from monitoring.evidently import dashboard, snapshots

    data = experiment_data(folder, first, last)
    whole = data
    if data.first != folder.experiment.first_day:
        whole = experiment_data(folder, None, data.last)
    # Lifts and findings need all days so far, everything else the days asked for.
    measured, samples, notes = _measure(folder, data, whole)
    workspace, project = snapshots.open_project(out / WORKSPACE, folder)
    days = []
    for day in data.days:
        figures = measured.filter(pc.equal(measured["day"], pa.scalar(day)))
        arms = figures.filter(pc.equal(figures["family"], "online"))["of"]
        # A snapshot an arm, whose drift Evidently measures, then one of the whole day.
        for arm in sorted(set(arms.to_pylist())):
            sample = samples.get((day, arm))
            snapshot = snapshots.arm_snapshot(figures, sample, bounds, day, arm)
            snapshots.store(workspace, project, snapshot, day, arm)
            figures = tables([figures, snapshots.drift_of(snapshot, day, arm)])
        families = [figure.family for figure in broken(figures, bounds)]
        counts = {family: families.count(family) for family in bounds.bounds}
        figures = tables([figures, table(day, "bounds", "all arms", counts)])
        snapshot = snapshots.day_snapshot(figures, bounds, day)
        snapshots.store(workspace, project, snapshot, day, "all arms")
        days.append(figures)
    figures = tables(days)
    # The dashboard has the days that were monitored before, too.
    path, before = out / FIGURES_FILE, FIGURES.empty_table()
    if path.is_file():
        before = pq.read_table(path, schema=FIGURES)
    others = before.filter(pc.invert(pc.is_in(before["day"], pa.array(data.days))))
    all_figures = tables([others, figures]).sort_by("day")
    write_parquet(all_figures, path)
    dashboard.draw(workspace, project, all_figures, folder, whole.findings)
    outside = broken(figures, bounds)
    retrain = retraining(outside, bounds)
    return Monitored(str(project.id), data.days, figures, outside, retrain, notes)


def _measure(
    folder: ExperimentFolder, data: ExperimentData, whole: ExperimentData
) -> tuple[pa.Table, dict[tuple[date, str], DriftSample], list[str]]:
    """Every figure that we compute ourselves, a drift sample for each day and arm, and notes.

    `whole` has the days of `data`, and the ones before them from the experiment's first on.
    """
    log = folder.logged()
    exposures = daily.logged_by_arms(data, log)
    engagements = daily.logged_engagements(data, log)
    # Evaluated lists are compared as far as the log's lists go.
    length = exposures.position.max().as_scalar().to_pyarrow().as_py() or 0
    reference, notes = load_reference(folder, length)
    findings = {finding.name: finding.count for finding in whole.findings}
    parts = [
        *daily.online(data),
        *daily.lifts(whole, folder.history, data.first),
        *daily.freshness(data),
        *daily.heads(data, exposures),
        *daily.quality(data, log),
        table(data.last, "findings", "log", findings),
    ]
    if reference is None:
        return tables(parts), {}, notes
    parts += drift.unknown(reference, exposures)
    parts += drift.embeddings(reference, exposures, engagements)
    samples = drift.samples(folder, reference, exposures, once(log.engagements), data.days)
    return tables(parts), dict(samples), notes
