"""A day as Evidently keeps it: one snapshot an arm, and one of the whole day that the dashboard
draws its lines from.

The dashboard joins to a line only what stands in the same snapshot on every day, so the snapshot of
the day has the figures of all arms; those of the arms have the distributions of scores and features
besides. A snapshot's id follows from its day and arm: a day that is monitored again replaces what
was there.
"""

import uuid
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path

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
from mtmh.experiment.dealt import ABOUT
from mtmh.experiment.folder import Experiment, ExperimentFolder

DAY_TAG, ARM_TAG = "day", "arm"


def open_project(workspace: Path, folder: ExperimentFolder) -> tuple[Workspace, Project]:
    """The project of an experiment in the workspace, made where there is none."""
    experiment = folder.experiment
    opened = Workspace.create(str(workspace))
    key = (
        experiment.salt,
        experiment.first_day,
        experiment.treatment,
        experiment.world,
        experiment.seed,
    )
    name = visible(f"{experiment.treatment} against {experiment.control}", 200)
    description = f"From {experiment.first_day} on. {about_users(experiment)}".strip()
    project_id = uuid.uuid5(uuid.NAMESPACE_URL, f"mtmh/{key}")
    project = ProjectModel(id=project_id, name=name, description=description)
    return opened, opened.add_project(project)


def about_users(experiment: Experiment) -> str:
    """Who the users are, where they are not real ones, or that all are served alike; empty
    otherwise.
    """
    if experiment.dealt_from is not None:
        return ABOUT
    if not experiment.simulated:
        return ""
    return visible(
        f"Users are simulated: the world is {experiment.world!r}, the seed {experiment.seed}."
    )


def arm_snapshot(
    figures: pa.Table, sample: DriftSample | None, bounds: Bounds, day: date, arm: str
) -> Snapshot:
    """One arm on one day: its figures, and its scores and features beside their reference.

    `figures` are of the whole day; the arm's and its heads' are taken.
    """
    of_arm = pc.or_(pc.equal(figures["of"], arm), pc.starts_with(figures["of"], f"{arm}, "))
    metrics: list[Metric] = list(_figures(figures.filter(of_arm), bounds))
    current = dataset(figures)
    reference = None
    if sample is not None:
        names = comparable(sample.current, sample.reference)
        for name in names:
            method = "jensenshannon" if name == TOPIC else "wasserstein"
            tests = bounds.tests("drift", [name]).get(name, [])
            metrics.append(ValueDrift(column=name, method=method, tests=tests))
        # Numbers by Wasserstein distance, the topic by Jensen-Shannon distance.
        datasets = []
        for frame in (sample.current, sample.reference):
            definition = DataDefinition(
                numerical_columns=[name for name in names if name != TOPIC],
                categorical_columns=[name for name in names if name == TOPIC],
            )
            datasets.append(Dataset.from_pandas(frame[names], data_definition=definition))
        current, reference = datasets
    return _run(metrics, current, reference, figures, day, arm, ARM_TAG)


def day_snapshot(figures: pa.Table, bounds: Bounds, day: date) -> Snapshot:
    """The whole day: every figure of it."""
    return _run(
        list(_figures(figures, bounds)), dataset(figures), None, figures, day, "all arms", DAY_TAG
    )


def drift_of(snapshot: Snapshot, day: date, arm: str) -> pa.Table:
    """What Evidently measured of the columns: the family `drift` of the arm."""
    drift = {}
    for result in snapshot.metric_results.values():
        column = result.get_metric_value_location().metric.params.get("column")
        if column is not None and isinstance(result, SingleValue):
            drift[str(column)] = float(result.value)
    return table(day, "drift", arm, drift)


def store(workspace: Workspace, project: Project, snapshot: Snapshot, day: date, who: str) -> None:
    """Store the snapshot; it replaces an earlier one of the same day and arm."""
    snapshot_id = uuid.uuid5(project.id, f"{day} {who}")
    workspace.state.write_snapshot(project.id, snapshot_id, snapshot.to_snapshot_model())


def _run(
    metrics: list[Metric],
    current: Dataset,
    reference: Dataset | None,
    figures: pa.Table,
    day: date,
    who: str,
    tag: str,
) -> Snapshot:
    """The snapshot of a report, dated to the day."""
    report = Report(metrics, tags=[tag], metadata={"day": str(day), "of": who})
    return report.run(
        current,
        reference,
        {DATA: dataset(figures)},
        timestamp=datetime.combine(day, time()),
        name=f"{day}, {who}",
    )


def _figures(figures: pa.Table, bounds: Bounds) -> Iterator[Figures]:
    """A metric for each family and arm (or head) in the table, in the order of the families."""
    frame = figures.select(["family", "of", "label"]).to_pandas()
    for family in FAMILIES:
        for of, labels in frame[frame["family"] == family].groupby("of", sort=False)["label"]:
            yield Figures(family=family, of=str(of), tests=bounds.tests(family, list(labels)))
