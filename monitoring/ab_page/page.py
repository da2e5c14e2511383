"""What a comparison leaves: ab.json, verdict.json and the page ab.html, self-contained and without scripts."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup

import mtmh.report
from monitoring.ab_page import plots, wording
from mtmh.data.files import replacing
from mtmh.display import shown, visible
from mtmh.experiment.comparison import ArmComparison
from mtmh.experiment.metrics import METRICS
from mtmh.experiment.segments import METRICS_SHOWN
from mtmh.experiment.statistics.effects import Effect
from mtmh.experiment.verdict import GUARDRAILS, PRIMARY, between, rule, signed
from mtmh.report.plots import svg

# The paper's Table 5 with the rate of engagement: what people did. Everything else describes what they were shown.
DONE_BY_USERS = (
    "time_spent", "daily_active_users", "engagement_rate", "distinct_item_views", "fresh_share", "novel_interests",
    "interest_recall",
)  # fmt: skip
BOUNDS = ("lift", "lo", "hi", "always_lo", "always_hi")


def write(comparison: ArmComparison, out: Path, code_version: str) -> None:
    """Write ab.json, verdict.json and ab.html into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    html = _environment().get_template("page.html.j2").render(**_view(comparison, code_version))
    for name, text in (
        ("ab.json", _json(ab(comparison))),
        ("verdict.json", _json(details(comparison, code_version))),
        ("ab.html", html),
    ):
        with replacing(out / name) as draft:
            draft.write_text(text, encoding="utf-8")


def ab(comparison: ArmComparison) -> dict[str, dict[str, Any]]:
    """What ab.json holds: one entry a metric, and `sample_ratio` and `never_served` beside them.

    Of a metric: control and treatment (in the metric's unit), lift with lo and hi (relative change and its fixed 95 %
    interval), adjusted_p (corrected over all metrics); further p (uncorrected), always_lo and always_hi (the
    always-valid 95 % interval), cuped (whether the pre-period was made use of), users ([control, treatment]), reason
    (why something is null, or was left out), winsorized (users above the limit, the limit, plain_lift without it),
    largest (the user with the largest share of an arm's sum). Of the sample ratio: observed and expected users by arm
    who were served, p, alarm. Of never_served: users by arm who engaged and were not, of how many, p, alarm. A figure
    that could not be computed is null.
    """
    entries: dict[str, dict[str, Any]] = {}
    for effect in comparison.effects:
        entry = asdict(effect)
        entries[entry.pop("metric")] = entry
    checks = {"sample_ratio": asdict(comparison.sample_ratio), "never_served": asdict(comparison.never_served)}
    return {**entries, **checks}


def details(comparison: ArmComparison, code_version: str) -> dict[str, Any]:
    """What verdict.json holds: verdict, rule, place, days, effects by day, segments, findings."""
    place = comparison.experiment
    return {
        "verdict": asdict(comparison.verdict),
        "rule": rule(),
        "control": place.control,
        "treatment": place.treatment,
        "simulated": place.simulated,
        "days": [str(day) for day in comparison.days],
        "by_day": comparison.by_day.to_pylist(),
        "segments": [
            {"kind": each.segment.kind, "name": each.segment.name, **asdict(each.effect), "adjusted_p": each.adjusted_p}
            for each in comparison.segments
        ],
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


def _environment() -> jinja2.Environment:
    """Everything is escaped, whatever the file is called: names of arms, topics and examples come from data."""
    folder = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        autoescape=True,
        finalize=shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["quoted"] = shlex.quote
    house = Path(mtmh.report.__file__).parent / "report.css"
    environment.globals["css"] = Markup(house.read_text() + (folder / "page.css").read_text())
    return environment


def _view(comparison: ArmComparison, code_version: str) -> dict[str, Any]:
    days, place = comparison.days, comparison.experiment
    named = {effect.metric: effect for effect in comparison.effects}
    first = [named[name] for name in DONE_BY_USERS if name in named]
    rest = [effect for effect in comparison.effects if effect.metric not in DONE_BY_USERS]
    return {
        "verdict": comparison.verdict,
        "place": place,
        "period": f"{days[0]} to {days[-1]}, {wording.count(len(days), 'day')}" if days else "no days",
        "days": days,
        "tiles": _tiles(comparison),
        "rule": rule(),
        "groups": [
            _group("done", "What people did", first),
            _group("shown", "What they were shown, and from where", rest),
        ],
        "series": _series(comparison),
        "ratio": wording.ratio(comparison.sample_ratio, comparison.never_served),
        "notes": wording.notes(comparison),
        "segment_words": wording.segments(comparison),
        "segment_notes": wording.segment_notes(comparison),
        "segment_metrics": [METRICS[name].title for name in METRICS_SHOWN],
        "segment_rows": _segment_rows(comparison),
        "segment_drawings": _segment_drawings(comparison),
        "corrected": wording.corrected(comparison),
        "findings": [finding for finding in comparison.findings if finding.count],
        "not_found": [finding.title.lower() for finding in comparison.findings if not finding.count],
        "limits": wording.limits(comparison),
        "definitions": [(each.title, f"{each.definition} ({each.unit})") for each in METRICS.values()],
        "folder": str(comparison.place.folder),
        "code_version": code_version,
    }


def _tiles(comparison: ArmComparison) -> list[dict[str, str]]:
    found = {effect.metric: effect for effect in comparison.effects}
    tiles = []
    for name in (PRIMARY, *GUARDRAILS):
        role = "primary metric" if name == PRIMARY else "guardrail"
        if (effect := found.get(name)) is None or effect.lift != effect.lift:
            tiles.append({"name": METRICS[name].title, "value": "—", "note": f"{role}; not measured"})
            continue
        bounds = between(effect.always_lo, effect.always_hi)
        tiles.append({"name": METRICS[name].title, "value": signed(effect.lift), "note": f"{role}; {bounds}"})
    users = sum(comparison.log.users.values())
    alarm = "alarm" if comparison.sample_ratio.alarm or comparison.never_served.alarm else "as it should be"
    tiles.append({"name": "users compared", "value": f"{users:,}", "note": f"sample ratio: {alarm}"})
    return tiles


def _group(name: str, title: str, effects: Sequence[Effect]) -> dict[str, Any]:
    lines = [_line(effect, _sign(effect.always_lo, effect.always_hi)) for effect in effects]
    told = "; ".join(f"{line.label} {signed(line.lift)}" for line in lines)
    return {
        "title": title,
        "rows": [_row(effect) for effect in effects],
        "drawing": _svg(plots.forest(lines), f"forest-{name}", f"{title}, change against control: {told}"),
        "caption": f"{title}. An arrow marks an interval that goes on beyond the axis.",
    }


def _row(effect: Effect) -> dict[str, Any]:
    metric = METRICS[effect.metric]
    role = "primary" if effect.metric == PRIMARY else "guardrail" if effect.metric in GUARDRAILS else ""
    cells = [
        ("control", wording.value(effect.control, metric.unit)),
        ("treatment", wording.value(effect.treatment, metric.unit)),
        ("lift", signed(effect.lift)),
        ("fixed", between(effect.lo, effect.hi)),
        ("always", between(effect.always_lo, effect.always_hi)),
        ("adjusted_p", wording.p_value(effect.adjusted_p)),
    ]
    values = {name: getattr(effect, name) for name in ("control", "treatment", "lift", "adjusted_p")}
    return {
        "metric": effect.metric,
        "title": metric.title,
        "role": role,
        "cells": [(key, "" if (number := values.get(key)) is None else number, text) for key, text in cells],
        "measured": bool(np.isfinite([effect.lift, effect.always_lo, effect.always_hi]).all()),
        "reason": effect.reason,
        "sign": _sign(effect.always_lo, effect.always_hi),
        "higher": metric.higher,
    }


def _line(effect: Effect, sign: int, label: str = "") -> plots.PlottedLift:
    metric = METRICS[effect.metric]
    bounds = {key: getattr(effect, key) for key in BOUNDS}
    whole = effect.metric in (PRIMARY, *GUARDRAILS)
    return plots.PlottedLift(label or metric.title, **bounds, sign=sign, better=metric.higher, whole=whole)


def _series(comparison: ArmComparison) -> list[tuple[Markup, str]]:
    """One picture a metric that has a lift: primary and guardrails first."""
    rows = comparison.by_day.to_pylist()
    order = [PRIMARY, *GUARDRAILS, *(name for name in METRICS if name not in (PRIMARY, *GUARDRAILS))]
    found = []
    for name in order:
        own = [row for row in rows if row["metric"] == name and np.isfinite([row["always_lo"], row["always_hi"]]).all()]
        if not own:
            continue
        own.sort(key=lambda row: row["day"])
        metric = METRICS[name]
        signs = [_sign(row["always_lo"], row["always_hi"]) for row in own]
        lines = [
            plots.PlottedLift(metric.title, **{key: row[key] for key in BOUNDS}, sign=sign, better=metric.higher)
            for row, sign in zip(own, signs, strict=True)
        ]
        days: list[date] = [row["day"] for row in own]
        drawn = plots.over_days(days, lines)
        told = f"{metric.title}: change by day, at the end {signed(lines[-1].lift)}"
        found.append((_svg(drawn, f"days-{name}", told), metric.title))
    return found


def _segment_rows(comparison: ArmComparison) -> list[dict[str, Any]]:
    rows: dict[str, dict[str, Any]] = {}
    for each in comparison.segments:
        row = rows.setdefault(each.segment.name, {"name": each.segment.name, "cells": []})
        row["users"] = f"{sum(each.effect.users):,}"
        interval = between(each.effect.lo, each.effect.hi)
        cell = {"lift": signed(each.effect.lift), "interval": interval, "p": wording.p_value(each.adjusted_p)}
        row["cells"].append({**cell, "stands": each.stands})
    return list(rows.values())


def _segment_drawings(comparison: ArmComparison) -> list[tuple[Markup, str]]:
    drawings = []
    for name in METRICS_SHOWN[: 2 if comparison.segments else 0]:
        own = [each for each in comparison.segments if each.effect.metric == name]
        lines = [_line(one.effect, _sign(one.effect.lo, one.effect.hi) * one.stands, one.segment.name) for one in own]
        title = METRICS[name].title
        told = "; ".join(f"{line.label} {signed(line.lift)}" for line in lines)
        drawings.append((_svg(plots.forest(lines), f"segments-{name}", f"{title} by segment: {told}"), title))
    return drawings


def _sign(low: float, high: float) -> int:
    """On which side of 0 the whole interval lies; 0 where it holds 0, or there is none."""
    return int(low > 0) - int(high < 0)


def _svg(figure: Any, name: str, description: str) -> Markup:
    return Markup(svg(figure, name, str(Markup.escape(visible(description, 1000)))))
