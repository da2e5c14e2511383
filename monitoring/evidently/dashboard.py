"""The dashboard: six tabs of lines over the days, which Evidently draws from the snapshots of whole
days.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
from evidently.sdk.models import DashboardModel, DashboardPanelPlot, DashboardTabModel, PanelMetric
from evidently.sdk.panels import line_plot_panel, text_panel
from evidently.ui.workspace import Project, Workspace

from monitoring.evidently.figures import FAMILIES, definition_of, title_of
from monitoring.evidently.snapshots import DAY_TAG, about_users
from mtmh.display import visible
from mtmh.experiment.findings import LogFinding
from mtmh.experiment.folder import ExperimentFolder

TABS = ("A/B", "Freshness", "Diversity", "Heads", "Drift", "Data quality")
EXAMPLE = 200  # letters of a finding's example
# The metrics of the paper's Table 5.
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


@dataclass(frozen=True)
class Lines:
    """All lines that there are, and the panels that they make."""

    lines: list[Line]

    def of(self, family: str) -> list[Line]:
        """The lines of one family."""
        return [line for line in self.lines if line.family == family]

    def ab(self, folder: ExperimentFolder) -> Iterator[DashboardPanelPlot]:
        """The tab A/B: what is compared, in words, the arms' metrics, lifts, and sample ratio."""
        experiment = folder.experiment
        # An arm without quotas of its own gets the champion's: there is no number to say.
        names = [f"{arm.name} ({arm.mix})" if arm.mix else arm.name for arm in experiment.arms]
        days = f"{experiment.days} days from {experiment.first_day} on; arms: {', '.join(names)}."
        verdict = "The verdict, with intervals for every metric, is in the A/B report (mtmh ab)."
        about = " ".join(part for part in (about_users(experiment), days, verdict) if part)
        title = f"{experiment.treatment} against {experiment.control}"
        yield text_panel(visible(title), visible(about))
        # What each arm has comes first: a lift says little without it.
        yield from self.online(*COMPARED, "engagement_rate")
        # The always-valid interval alone: a dashboard is looked at every day.
        ends = {"lift": "lift", "always_lo": "lower end", "always_hi": "upper end"}
        for name in COMPARED:
            of_metric = [
                replace(line, legend=ends[line.of])
                for line in self.of("lift")
                if line.label == name
            ]
            yield from _panel(f"Lift: {title_of(name)}", FAMILIES["lift"].definition, of_metric)
        family = FAMILIES["sample ratio"]
        ratios = [replace(line, legend=line.of) for line in self.of("sample ratio")]
        yield from _panel(family.title, family.definition, ratios)

    def quality(self, findings: Sequence[LogFinding]) -> Iterator[DashboardPanelPlot]:
        """The tab Data quality: what is wrong in the log, its volume, broken bounds, findings."""
        wrong = [finding for finding in findings if finding.count]
        about = f"{len(findings) - len(wrong)} of {len(findings)} checks found nothing."
        yield text_panel("What was found in the log", about)
        # A panel a finding, with an example of what is wrong.
        for finding in wrong:
            means = visible(finding.means[0].upper() + finding.means[1:])
            if finding.example:
                means += f" Example: {visible(finding.example, EXAMPLE)}"
            yield text_panel(f"{finding.title}: {finding.count:,} {finding.of}", means)
        yield from self.by_label("quality")
        bounds = [replace(line, legend=FAMILIES[line.label].title) for line in self.of("bounds")]
        yield from _panel(FAMILIES["bounds"].title, FAMILIES["bounds"].definition, bounds)
        names = {finding.name for finding in wrong}
        by_day = [
            replace(line, legend=title_of(line.label))
            for line in self.of("findings")
            if line.label in names
        ]
        yield from _panel("Findings", FAMILIES["findings"].definition, by_day)

    def online(self, *names: str) -> Iterator[DashboardPanelPlot]:
        """A panel a metric, a line an arm."""
        online = self.of("online")
        for name in names:
            of_metric = [replace(line, legend=line.of) for line in online if line.label == name]
            yield from _panel(title_of(name), definition_of(name), of_metric)

    def by_label(self, family: str) -> Iterator[DashboardPanelPlot]:
        """A panel for each figure of a family, a line for each thing that has it."""
        of_family = self.of(family)
        for label in dict.fromkeys(line.label for line in of_family):
            of_label = [replace(line, legend=line.of) for line in of_family if line.label == label]
            about = f"{FAMILIES[family].definition} {definition_of(label)}".strip()
            yield from _panel(f"{FAMILIES[family].title}: {title_of(label)}", about, of_label)

    def by_head(self, family: str) -> Iterator[DashboardPanelPlot]:
        """A panel for each head, a line for each of its figures."""
        of_family = self.of(family)
        for of in dict.fromkeys(line.of for line in of_family):
            of_head = [replace(line, legend=line.label) for line in of_family if line.of == of]
            title = f"{FAMILIES[family].title}: {of} head"
            yield from _panel(title, FAMILIES[family].definition, of_head)


def draw(
    workspace: Workspace,
    project: Project,
    figures: pa.Table,
    folder: ExperimentFolder,
    findings: Sequence[LogFinding],
) -> None:
    """Lay out the dashboard: a line for each figure that there is, and the last `findings`."""
    # The figures have a row a day: each line once, in the order in which it first came up.
    rows = zip(*(figures[name].to_pylist() for name in ("family", "of", "label")), strict=True)
    lines = Lines([Line(family, of, label, "") for family, of, label in dict.fromkeys(rows)])
    diversity = ("diversity", "topic_entropy", "catalog_coverage", "gini", "distinct_item_views")
    heads = ("relevance_share", "relevance_engagement_share", "topic_match")
    # A panel without lines is left out, so a tab may be empty; but it stays, with its address.
    tabs = {
        "A/B": list(lines.ab(folder)),
        "Freshness": [
            *lines.online("fresh_share", "cold_share"),
            *lines.by_label("freshness"),
        ],
        "Diversity": list(lines.online(*diversity)),
        "Heads": [*lines.online(*heads), *lines.by_label("heads")],
        "Drift": [
            *lines.by_label("drift"),
            *lines.by_head("embeddings"),
            *lines.by_head("topics"),
        ],
        "Data quality": list(lines.quality(findings)),
    }
    # Evidently takes all panels in one list; a tab names those that are its own.
    models = []
    panels = []
    for title in TABS:
        models.append(DashboardTabModel(title=title, panels=[panel.id for panel in tabs[title]]))
        panels += tabs[title]
    workspace.save_dashboard(project.id, DashboardModel(tabs=models, panels=panels))


def _panel(title: str, about: str, lines: list[Line]) -> Iterator[DashboardPanelPlot]:
    """A panel of lines over the days; none without lines."""
    if not lines:
        return
    metrics = []
    for line in lines:
        # A label must name the arm: Evidently looks only at the first line whose labels fit,
        # whatever its metadata.
        labels = {"family": line.family, "of": line.of, "label": line.label}
        legend = visible(line.legend, 60)
        metrics.append(
            PanelMetric(metric="Figures", metric_labels=labels, tags=[DAY_TAG], legend=legend)
        )
    yield line_plot_panel(title, metrics, about, "half")
