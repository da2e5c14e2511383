"""A day as Evidently keeps it: one snapshot an arm, and one of the whole day that the dashboard draws its lines from.

The dashboard joins to a line only what stands in the same snapshot on every day, so the snapshot of the day has the
figures of all arms; those of the arms have the distributions of scores and features besides. A snapshot's id follows
from its day and arm: a day that is monitored again replaces what was there.
"""

import uuid
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from evidently import DataDefinition, Dataset, Report
from evidently.core.metric_types import Metric, SingleValue
from evidently.core.report import Snapshot
from evidently.metrics import ValueDrift
from evidently.sdk.models import ProjectModel
from evidently.ui.workspace import Project, Workspace

from monitoring.evidently.bounds import Bounds
from monitoring.evidently.drift import TOPIC, DriftSample, comparable
from monitoring.evidently.figures import FAMILIES, table
from monitoring.evidently.metrics import DATA, Figures, dataset
from mtmh.display import visible
from mtmh.experiment.folder import ExperimentFolder

DAY_TAG, ARM_TAG = "day", "arm"


def open_project(workspace: Path, place: ExperimentFolder) -> tuple[Workspace, Project]:
    """The project of a place's experiment in the workspace, made where there is none."""
    experiment = place.experiment
    store = Workspace.create(str(workspace))
    key = (experiment.salt, experiment.first_day, experiment.treatment, experiment.world, experiment.seed)
    own = uuid.uuid5(uuid.NAMESPACE_URL, f"mtmh/{key}")
    name = visible(f"{experiment.treatment} against {experiment.control}", 200)
    who = simulated(place)
    project = ProjectModel(id=own, name=name, description=f"From {experiment.first_day} on. {who}".strip())
    return store, store.add_project(project)


def simulated(place: ExperimentFolder) -> str:
    """Who the users are, where they are not real ones; empty otherwise."""
    experiment = place.experiment
    if not experiment.simulated:
        return ""
    return visible(f"Users are simulated: the world is {experiment.world!r}, the seed {experiment.seed}.")


def arm_snapshot(figures: pa.Table, compared: DriftSample | None, bounds: Bounds, day: date, arm: str) -> Snapshot:
    """One arm on one day: its figures, and its scores and features beside their reference.

    `figures` are those of the day; the arm's own and those of its heads are taken.
    """
    own = pc.or_(pc.equal(figures["of"], arm), pc.starts_with(figures["of"], f"{arm}, "))
    metrics: list[Metric] = list(_figures(figures.filter(own), bounds))
    current, reference = dataset(figures), None
    if compared is not None:
        names = comparable(compared.current, compared.reference)
        metrics += [_drift(name, bounds) for name in names]
        current, reference = (_columns(part, names) for part in (compared.current, compared.reference))
    return _run(metrics, current, reference, figures, day, arm, ARM_TAG)


def day_snapshot(figures: pa.Table, bounds: Bounds, day: date) -> Snapshot:
    """The whole day: every figure of it."""
    return _run(list(_figures(figures, bounds)), dataset(figures), None, figures, day, "all arms", DAY_TAG)


def drift_of(snapshot: Snapshot, day: date, arm: str) -> pa.Table:
    """What Evidently measured of the columns: the family `drift` of the arm."""
    found = {}
    for result in snapshot.metric_results.values():
        column = result.get_metric_value_location().metric.params.get("column")
        if column is not None and isinstance(result, SingleValue):
            found[str(column)] = float(result.value)
    return table(day, "drift", arm, found)


def keep(workspace: Workspace, project: Project, snapshot: Snapshot, day: date, who: str) -> None:
    """Store the snapshot, in the place of an earlier one of the same day and arm."""
    own = uuid.uuid5(project.id, f"{day} {who}")
    workspace.state.write_snapshot(project.id, own, snapshot.to_snapshot_model())


def _run(
    metrics: list[Metric], current: Dataset, reference: Dataset | None, figures: pa.Table, day: date, who: str, tag: str
) -> Snapshot:
    report = Report(metrics, tags=[tag], metadata={"day": str(day), "of": who})
    at = datetime.combine(day, time())
    return report.run(current, reference, {DATA: dataset(figures)}, timestamp=at, name=f"{day}, {who}")


def _figures(figures: pa.Table, bounds: Bounds) -> Iterator[Figures]:
    """A metric for each family and arm (or head) in the table, in the order of the families."""
    frame = figures.select(["family", "of", "label"]).to_pandas()
    for family in FAMILIES:
        for of, labels in frame[frame["family"] == family].groupby("of", sort=False)["label"]:
            yield Figures(family=family, of=str(of), tests=bounds.tests(family, list(labels)))


def _drift(column: str, bounds: Bounds) -> ValueDrift:
    method = "jensenshannon" if column == TOPIC else "wasserstein"
    return ValueDrift(column=column, method=method, tests=bounds.tests("drift", [column]).get(column, []))


def _columns(frame: pd.DataFrame, names: list[str]) -> Dataset:
    numbers = [name for name in names if name != TOPIC]
    texts = [name for name in names if name == TOPIC]
    definition = DataDefinition(numerical_columns=numbers, categorical_columns=texts)
    return Dataset.from_pandas(frame[names], data_definition=definition)
