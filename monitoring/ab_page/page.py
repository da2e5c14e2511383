"""What a comparison leaves: ab.json, verdict.json and the page ab.html, self-contained and without
scripts.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

import mtmh.report
from monitoring.ab_page import plots, wording
from mtmh.data.files import replacing
from mtmh.display import finalize, visible
from mtmh.experiment.comparison import ArmComparison
from mtmh.experiment.dealt import ABOUT
from mtmh.experiment.metrics import METRICS
from mtmh.experiment.segments import METRICS_SHOWN
from mtmh.experiment.statistics.effects import Effect
from mtmh.experiment.verdict import GUARDRAILS, PRIMARY, between, rule, signed
from mtmh.report.plots import svg

# The paper's Table 5 with the rate of engagement: what people did. Everything else describes what
# they were shown.
DONE_BY_USERS = (
    "time_spent",
    "daily_active_users",
    "engagement_rate",
    "distinct_item_views",
    "fresh_share",
    "novel_interests",
    "interest_recall",
)


def write(comparison: ArmComparison, out: Path, code_version: str) -> None:
    """Write ab.json, verdict.json and ab.html into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    folder = Path(__file__).parent
    # Everything is escaped, whatever the file is called: names of arms, topics and examples come
    # from data.
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        finalize=finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["quoted"] = shlex.quote
    css = (Path(mtmh.report.__file__).parent / "report.css").read_text()
    environment.globals["css"] = Markup(css + (folder / "page.css").read_text())
    template = environment.get_template("page.html.j2")
    files = {
        "ab.json": _json(ab(comparison)),
        "verdict.json": _json(details(comparison, code_version)),
        "ab.html": template.render(**_view(comparison, code_version)),
    }
    for name, text in files.items():
        with replacing(out / name) as draft:
            draft.write_text(text, encoding="utf-8")


def ab(comparison: ArmComparison) -> dict[str, dict[str, Any]]:
    """What ab.json holds: one entry a metric, and `sample_ratio` and `never_served` beside them.

    Of a metric: control and treatment (in the metric's unit), lift with lo and hi (relative change
    and its fixed 95 % interval), adjusted_p (corrected over all metrics); further p (uncorrected),
    always_lo and always_hi (the always-valid 95 % interval), cuped (whether the pre-period was made
    use of), users ([control, treatment]), reason (why something is null, or was left out),
    winsorized (users above the limit, the limit, plain_lift without it), largest (the user with the
    largest share of an arm's sum). Of the sample ratio: observed and expected users by arm who were
    served, p, alarm. Of never_served: users by arm who engaged and were not, of how many, p, alarm.
    A figure that could not be computed is null.
    """
    entries: dict[str, dict[str, Any]] = {}
    for effect in comparison.effects:
        entry = asdict(effect)
        entries[entry.pop("metric")] = entry
    checks = {
        "sample_ratio": asdict(comparison.sample_ratio),
        "never_served": asdict(comparison.never_served),
    }
    return {**entries, **checks}


def details(comparison: ArmComparison, code_version: str) -> dict[str, Any]:
    """What verdict.json holds: verdict, rule, arms, days, effects by day, segments, findings."""
    experiment = comparison.experiment
    segments = []
    for part in comparison.segments:
        entry = {"kind": part.segment.kind, "name": part.segment.name, **asdict(part.effect)}
        # The effect's own adjusted_p is over its segment's metrics alone: all segments count.
        segments.append({**entry, "adjusted_p": part.adjusted_p})
    return {
        "verdict": asdict(comparison.verdict),
        "rule": rule(),
        "control": experiment.control,
        "treatment": experiment.treatment,
        "simulated": experiment.simulated,
        "a_a": experiment.dealt_from is not None,
        "days": [str(day) for day in comparison.days],
        "by_day": comparison.by_day.to_pylist(),
        "segments": segments,
        "findings": [asdict(finding) for finding in comparison.findings],
        "code_version": code_version,
    }


def _json(content: object) -> str:
    return json.dumps(_without_nan(content), indent=2, default=str, allow_nan=False) + "\n"


def _without_nan(content: Any) -> Any:
    """JSON has no NaN: null says that there is no figure."""
    if isinstance(content, Mapping):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_without_nan(value) for value in content]
    if isinstance(content, (float, np.floating)):
        return float(content) if np.isfinite(content) else None
    return content.item() if isinstance(content, np.generic) else content


def _view(comparison: ArmComparison, code_version: str) -> dict[str, Any]:
    """The template's values."""
    days = comparison.days
    # Two groups of metrics; the first in an order of its own, that of DONE_BY_USERS.
    done = [effect for effect in comparison.effects if effect.metric in DONE_BY_USERS]
    done.sort(key=lambda effect: DONE_BY_USERS.index(effect.metric))
    rest = [effect for effect in comparison.effects if effect.metric not in DONE_BY_USERS]
    # Nobody may have been served yet: then there are no days to name.
    period = "no days"
    if days:
        period = f"{days[0]} to {days[-1]}, {wording.count(len(days), 'day')}"
    return {
        "verdict": comparison.verdict,
        "about_a_a": ABOUT,
        "experiment": comparison.experiment,
        "period": period,
        "days": days,
        "tiles": _tiles(comparison),
        "rule": rule(),
        "groups": [
            _group("done", "What people did", done),
            _group("shown", "What they were shown, and from where", rest),
        ],
        "series": _series(comparison),
        "ratio": wording.ratio(comparison.sample_ratio, comparison.never_served),
        "notes": wording.notes(comparison),
        **_segments(comparison),
        "corrected": wording.corrected(comparison),
        # Checks that came out empty are named too, so that a reader knows what was looked for.
        "findings": [finding for finding in comparison.findings if finding.count],
        "not_found": [
            finding.title.lower() for finding in comparison.findings if not finding.count
        ],
        "limits": wording.limits(comparison),
        "definitions": [
            (metric.title, f"{metric.definition} ({metric.unit})") for metric in METRICS.values()
        ],
        "folder": str(comparison.folder.folder),
        "code_version": code_version,
    }


def _tiles(comparison: ArmComparison) -> list[dict[str, str]]:
    """The largest figures of the page: primary metric, guardrails, users."""
    effects = {effect.metric: effect for effect in comparison.effects}
    tiles = []
    for name in (PRIMARY, *GUARDRAILS):
        role = "primary metric" if name == PRIMARY else "guardrail"
        effect = effects.get(name)
        # NaN is not equal to itself: a metric that is there may still have no figure.
        value, bounds = "—", "not measured"
        if effect is not None and effect.lift == effect.lift:
            value = signed(effect.lift)
            bounds = between(effect.always_lo, effect.always_hi)
        tiles.append({"name": METRICS[name].title, "value": value, "note": f"{role}; {bounds}"})
    # Users in two arms are in no figure, so they do not count here either.
    users = sum(comparison.log.users.values())
    # Either alarm says that an arm lost users, or their exposures.
    is_alarm = comparison.sample_ratio.alarm or comparison.never_served.alarm
    note = f"sample ratio: {'alarm' if is_alarm else 'as it should be'}"
    tiles.append({"name": "users compared", "value": f"{users:,}", "note": note})
    return tiles


def _group(name: str, title: str, effects: Sequence[Effect]) -> dict[str, Any]:
    """A picture and a table of some metrics."""
    lines = [plots.lift_of(effect, _sign(effect.always_lo, effect.always_hi)) for effect in effects]
    lifts = "; ".join(f"{line.label} {signed(line.lift)}" for line in lines)
    description = f"{title}, change against control: {lifts}"
    rows = []
    for effect in effects:
        metric = METRICS[effect.metric]
        role = "guardrail" if effect.metric in GUARDRAILS else ""
        # Key, number (empty where the cell has none of its own), text.
        cells = [
            ("control", effect.control, wording.value(effect.control, metric.unit)),
            ("treatment", effect.treatment, wording.value(effect.treatment, metric.unit)),
            ("lift", effect.lift, signed(effect.lift)),
            ("fixed", "", between(effect.lo, effect.hi)),
            ("always", "", between(effect.always_lo, effect.always_hi)),
            ("adjusted_p", effect.adjusted_p, wording.p_value(effect.adjusted_p)),
        ]
        bounds = [effect.lift, effect.always_lo, effect.always_hi]
        rows.append(
            {
                "metric": effect.metric,
                "title": metric.title,
                "role": "primary" if effect.metric == PRIMARY else role,
                "cells": cells,
                "measured": bool(np.isfinite(bounds).all()),
                "reason": effect.reason,
                "sign": _sign(effect.always_lo, effect.always_hi),
                "higher": metric.higher,
            }
        )
    return {
        "title": title,
        "rows": rows,
        "drawing": _svg(plots.forest(lines), f"forest-{name}", description),
        "caption": f"{title}. An arrow marks an interval that goes on beyond the axis.",
    }


def _series(comparison: ArmComparison) -> list[tuple[Markup, str]]:
    """One picture a metric that has a lift: primary and guardrails first."""
    rows = comparison.by_day.to_pylist()
    first = (PRIMARY, *GUARDRAILS)
    pictures = []
    # Only the days with an interval are drawn.
    for name in (*first, *(name for name in METRICS if name not in first)):
        metric = METRICS[name]
        of_metric = [
            row
            for row in rows
            if row["metric"] == name and np.isfinite([row["always_lo"], row["always_hi"]]).all()
        ]
        if not of_metric:
            continue
        of_metric.sort(key=lambda row: row["day"])
        lines = []
        for row in of_metric:
            sign = _sign(row["always_lo"], row["always_hi"])
            bounds = {key: row[key] for key in plots.BOUNDS}
            lines.append(plots.PlottedLift(metric.title, **bounds, sign=sign, better=metric.higher))
        figure = plots.over_days([row["day"] for row in of_metric], lines)
        description = f"{metric.title}: change by day, at the end {signed(lines[-1].lift)}"
        pictures.append((_svg(figure, f"days-{name}", description), metric.title))
    return pictures


def _segments(comparison: ArmComparison) -> dict[str, Any]:
    """The template's values of the segments: words, a table, and two metrics drawn."""
    rows: dict[str, dict[str, Any]] = {}
    for part in comparison.segments:
        name, effect = part.segment.name, part.effect
        row = rows.setdefault(name, {"name": name, "cells": []})
        row["users"] = f"{sum(effect.users):,}"
        row["cells"].append(
            {
                "lift": signed(effect.lift),
                "interval": between(effect.lo, effect.hi),
                "p": wording.p_value(part.adjusted_p),
                "stands": part.stands,
            }
        )
    drawings = []
    for metric in METRICS_SHOWN[: 2 if comparison.segments else 0]:
        lines = []
        for part in comparison.segments:
            if part.effect.metric == metric:
                # A change that does not stand is drawn as none.
                sign = _sign(part.effect.lo, part.effect.hi) * part.stands
                lines.append(plots.lift_of(part.effect, sign, part.segment.name))
        title = METRICS[metric].title
        lifts = "; ".join(f"{line.label} {signed(line.lift)}" for line in lines)
        description = f"{title} by segment: {lifts}"
        drawings.append((_svg(plots.forest(lines), f"segments-{metric}", description), title))
    return {
        "segment_words": wording.segments(comparison),
        "segment_notes": wording.segment_notes(comparison),
        "segment_metrics": [METRICS[name].title for name in METRICS_SHOWN],
        "segment_rows": list(rows.values()),
        "segment_drawings": drawings,
    }


def _sign(low: float, high: float) -> int:
    """On which side of 0 the whole interval lies; 0 where it holds 0, or there is none."""
    return int(low > 0) - int(high < 0)


def _svg(figure: Any, name: str, description: str) -> Markup:
    return Markup(svg(figure, name, str(Markup.escape(visible(description, 1000)))))
