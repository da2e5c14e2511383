"""The dashboard: six tabs of lines over the days, which Evidently draws from the snapshots of whole days."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
from evidently.sdk.models import DashboardModel, DashboardPanelPlot, DashboardTabModel, PanelMetric
from evidently.sdk.panels import line_plot_panel, text_panel
from evidently.ui.workspace import Project, Workspace

from monitoring.evidently.figures import FAMILIES, definition_of, title_of
from monitoring.evidently.snapshots import DAY_TAG, simulated
from mtmh.display import visible
from mtmh.experiment.checks import LogFinding
from mtmh.experiment.folder import ExperimentFolder

TABS = ("A/B", "Freshness", "Diversity", "Heads", "Drift", "Data quality")
EXAMPLE = 200  # letters of a finding's example
COMPARED = (
    "time_spent",
    "daily_active_users",
    "distinct_item_views",
    "fresh_share",
    "novel_interests",
    "interest_recall",
)


@dataclass(frozen=True)
class Line:
    """One line of a panel: a figure over the days, and its name in the legend."""

    family: str
    of: str
    label: str
    legend: str


def draw(
    workspace: Workspace, project: Project, figures: pa.Table, place: ExperimentFolder, findings: Sequence[LogFinding]
) -> None:
    """Lay out the dashboard anew, with a line for each figure that there is, and the last `findings` in words."""
    rows = zip(*(figures[name].to_pylist() for name in ("family", "of", "label")), strict=True)
    known = [Line(family, of, label, "") for family, of, label in dict.fromkeys(rows)]
    tabs = {
        "A/B": [_about(place), *_compared(known, place)],
        "Freshness": [*_online(known, "fresh_share", "cold_share"), *_by_label(known, "freshness")],
        "Diversity": [*_online(known, "diversity", "topic_entropy", "catalog_coverage", "gini", "distinct_item_views")],
        "Heads": [
            *_online(known, "relevance_share", "relevance_engagement_share", "topic_match"),
            *_by_label(known, "heads"),
        ],
        "Drift": [*_by_label(known, "drift"), *_by_of(known, "embeddings"), *_by_of(known, "topics")],
        "Data quality": [*_quality(known, findings)],
    }
    models = [DashboardTabModel(title=title, panels=[panel.id for panel in tabs[title]]) for title in TABS]
    workspace.save_dashboard(project.id, DashboardModel(tabs=models, panels=[p for title in TABS for p in tabs[title]]))


def _about(place: ExperimentFolder) -> DashboardPanelPlot:
    experiment = place.experiment
    arms = ", ".join(
        f"{arm.name} (alpha {arm.alpha:g})" if arm.alpha is not None else arm.name for arm in experiment.arms
    )
    days = f"{experiment.days} days from {experiment.first_day} on; arms: {arms}."
    verdict = "The verdict, with intervals for every metric, is in the A/B report (mtmh ab)."
    title = f"{experiment.treatment} against {experiment.control}"
    return text_panel(visible(title), visible(" ".join(part for part in (simulated(place), days, verdict) if part)))


def _compared(known: list[Line], place: ExperimentFolder) -> Iterator[DashboardPanelPlot]:
    yield from _online(known, *COMPARED, "engagement_rate")
    ends = {"lift": "lift", "always_lo": "lower end", "always_hi": "upper end"}
    for name in COMPARED:
        lines = [Line(one.family, one.of, one.label, ends[one.of]) for one in _of(known, "lift") if one.label == name]
        yield from _lines(f"Lift: {title_of(name)}", FAMILIES["lift"].definition, lines)
    p = [Line(one.family, one.of, one.label, one.of) for one in _of(known, "sample ratio")]
    yield from _lines(FAMILIES["sample ratio"].title, FAMILIES["sample ratio"].definition, p)


def _quality(known: list[Line], findings: Sequence[LogFinding]) -> Iterator[DashboardPanelPlot]:
    yield from _found(findings)
    yield from _by_label(known, "quality")
    bounds = [Line(one.family, one.of, one.label, FAMILIES[one.label].title) for one in _of(known, "bounds")]
    yield from _lines(FAMILIES["bounds"].title, FAMILIES["bounds"].definition, bounds)
    wrong = {finding.name for finding in findings if finding.count}
    lines = [Line(one.family, one.of, one.label, title_of(one.label)) for one in _of(known, "findings")]
    yield from _lines("Findings", FAMILIES["findings"].definition, [one for one in lines if one.label in wrong])


def _found(findings: Sequence[LogFinding]) -> Iterator[DashboardPanelPlot]:
    """What is wrong in the log, in words: a panel a finding."""
    wrong = [finding for finding in findings if finding.count]
    about = f"{len(findings) - len(wrong)} of {len(findings)} checks found nothing."
    yield text_panel("What was found in the log", about)
    for finding in wrong:
        example = f" Example: {visible(finding.example, EXAMPLE)}" if finding.example else ""
        means = visible(finding.means[0].upper() + finding.means[1:])
        yield text_panel(f"{finding.title}: {finding.count:,} {finding.of}", f"{means}{example}")


def _online(known: list[Line], *names: str) -> Iterator[DashboardPanelPlot]:
    """A panel a metric, a line an arm."""
    for name in names:
        lines = [Line(one.family, one.of, one.label, one.of) for one in _of(known, "online") if one.label == name]
        yield from _lines(title_of(name), definition_of(name), lines)


def _by_label(known: list[Line], family: str) -> Iterator[DashboardPanelPlot]:
    """A panel for each figure of a family, a line for each thing that has it."""
    for label in dict.fromkeys(one.label for one in _of(known, family)):
        lines = [Line(one.family, one.of, one.label, one.of) for one in _of(known, family) if one.label == label]
        about = f"{FAMILIES[family].definition} {definition_of(label)}".strip()
        yield from _lines(f"{FAMILIES[family].title}: {title_of(label)}", about, lines)


def _by_of(known: list[Line], family: str) -> Iterator[DashboardPanelPlot]:
    """A panel for each head, a line for each of its figures."""
    for of in dict.fromkeys(one.of for one in _of(known, family)):
        lines = [Line(family, of, one.label, one.label) for one in _of(known, family) if one.of == of]
        yield from _lines(f"{FAMILIES[family].title}: {of} head", FAMILIES[family].definition, lines)


def _of(known: list[Line], family: str) -> list[Line]:
    return [one for one in known if one.family == family]


def _lines(title: str, about: str, lines: list[Line], size: str = "half") -> Iterator[DashboardPanelPlot]:
    if lines:
        yield line_plot_panel(title, [_metric(line) for line in lines], about, size)


def _metric(line: Line) -> PanelMetric:
    # An arm must be told by a label: Evidently looks only at the first line whose labels fit, whatever its metadata.
    labels = {"family": line.family, "of": line.of, "label": line.label}
    return PanelMetric(metric="Figures", metric_labels=labels, tags=[DAY_TAG], legend=visible(line.legend, 60))
