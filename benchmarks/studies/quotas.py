"""Quotas that are not one fixed alpha: does any beat the best fixed one?

Fixed alphas in tens, turns (snake merge), global quotas by the cross-entropy method, and an alpha a
request by a smoothed table or a logistic regression (quota_strategies.py). On the validation
tail of T1, never T2; nothing is tuned on the users that it is measured on (alphas.py). Differences
are against the best fixed alpha, users resampled in pairs, their figures averaged over the seeds.
"Equal L2" is against the two fixed alphas around, mixed so that their L2 relevance is the
strategy's: above 0, it lies above the curve that alpha alone gives. "ceiling" gives each user the
alpha that is best for its own targets: it knows them.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.result import FOLDER, spread, write
from benchmarks.studies.alphas import ALPHAS, BEST, CEILING, Given, Run, compare
from benchmarks.studies.grids import DATA, SEEDS
from benchmarks.studies.study import Data, Seeds, Settings, existing, percent, short_name
from benchmarks.style import COLORS, INK, QUIET, save, styled
from mtmh.evaluation.bootstrap import Interval, mean_difference, ratio_difference
from mtmh.evaluation.metrics import RECALL_AT

CONFIDENCE, RESAMPLES = 0.95, 1000  # of all comparisons of one figure together
FIXED = [f"fixed alpha {alpha}" for alpha in ALPHAS]
PER_REQUEST = "regression (past)"  # whose figure stands for an alpha a request
MARKERS = {"snake": "D", "cross": "P", "table": "^", "regression": "s", "ceiling": "*"}
Rows = dict[str, dict[str, Any]]


def main(data: Data = DATA, seeds: Seeds = SEEDS, settings: Settings = None) -> None:
    """Snake merge, a searched alpha and an alpha a request, beside the best fixed one."""
    for source in existing(data):
        runs = [compare(source, tuple(settings or ()), seed) for seed in range(seeds)]
        rows = judge(runs)
        details = {
            "period": "validation tail of T1",
            "seeds": seeds,
            "users": len(runs[0][BEST].matches),
            "confidence": f"{CONFIDENCE:.0%} over all comparisons of a figure (Bonferroni)",
            "strategies": rows,
        }
        value, baseline = (rows[name]["recall_at_500"]["mean"] for name in (PER_REQUEST, BEST))
        unit = f"recall@500 of {PER_REQUEST}, beside {BEST}"
        write(f"quotas_{short_name(source)}", value, unit, baseline, details)
        print("\n".join(table(rows)), flush=True)
    save(draw(written()), FOLDER / "quotas.png")


def judge(runs: Sequence[Run]) -> Rows:
    """Of each strategy its figures over the seeds, and how far it is from the best fixed alpha."""
    rows: Rows = {}
    for name in runs[0]:
        given = [run[name] for run in runs]
        recalls = np.stack([row.recall.mean(axis=0) for row in given], axis=1)
        rows[name] = {
            f"recall_at_{k}": spread(list(map(float, values)))
            for k, values in zip(RECALL_AT, recalls, strict=True)
        }
        rows[name]["l2_relevance"] = spread([row.relevance for row in given])
        alphas = np.stack([row.alpha for row in given])
        if not np.isnan(alphas).any():
            rows[name]["alpha"] = {"mean": float(alphas.mean()), "deviation": float(alphas.std())}
        if name not in (BEST, *FIXED):
            rows[name]["difference"] = differences(runs, name)
    return rows


def differences(runs: Sequence[Run], name: str) -> dict[str, dict[str, float]]:
    """Recall at 20 and 500, L2 relevance, and recall@500 at equal L2, less the best fixed alpha's.

    A user's figures are averaged over the seeds first: users are what is resampled.
    """
    strategies = [other for other in runs[0] if other not in (BEST, *FIXED)]
    resampling = 1 - (1 - CONFIDENCE) / len(strategies), RESAMPLES, 0
    ours, best = (averaged([run[key] for run in runs]) for key in (name, BEST))
    intervals: dict[str, Interval] = {}
    for column, k in ((1, 20), (3, 500)):
        intervals[f"recall_at_{k}"] = mean_difference(
            ours.recall[:, column], best.recall[:, column], *resampling
        )
    intervals["l2_relevance"] = ratio_difference(
        (ours.matches, ours.retrieved), (best.matches, best.retrieved), *resampling
    )
    curve = np.mean([at_equal_relevance(run, name) for run in runs], axis=0)
    intervals["recall_at_500_at_equal_l2"] = mean_difference(ours.recall[:, -1], curve, *resampling)
    return {
        metric: {"mean": round(i.estimate, 5), "low": round(i.low, 5), "high": round(i.high, 5)}
        for metric, i in intervals.items()
    }


def averaged(given: Sequence[Given]) -> Given:
    """One strategy's recall of each user as the mean over the seeds; what is counted, in all."""
    recall, alpha = (
        np.mean([getattr(row, name) for row in given], axis=0) for name in ("recall", "alpha")
    )
    matches, retrieved = (
        np.sum([getattr(row, name) for row in given], axis=0) for name in ("matches", "retrieved")
    )
    return Given(recall, matches, retrieved, alpha)


def at_equal_relevance(run: Run, name: str) -> np.ndarray:
    """Recall@500 of each user, float64 [U], by the fixed alphas around the strategy's L2.

    Users are dealt between these two so that the L2 of all is the strategy's; this is the mean.
    """
    relevance = np.array([run[fixed].relevance for fixed in FIXED])
    # L2 falls as alpha rises, and interpolation wants it to rise.
    position = np.interp(run[name].relevance, relevance[::-1], np.arange(len(FIXED))[::-1])
    low = min(int(position), len(FIXED) - 2)
    first, second = (run[FIXED[number]].recall[:, -1] for number in (low, low + 1))
    return np.asarray((1 - (position - low)) * first + (position - low) * second)


def table(rows: Rows) -> list[str]:
    """Lines for the screen, percent and points."""
    lines = ["  percent, mean [least, most] over the seeds; points against the best fixed alpha"]
    for name, row in rows.items():
        figures = "  ".join(
            f"{label} {percent(row[metric])}"
            for label, metric in (
                ("R@20", "recall_at_20"),
                ("R@100", "recall_at_100"),
                ("R@500", "recall_at_500"),
                ("L2", "l2_relevance"),
            )
        )
        lines.append(f"  {name:32} {figures}")
        for metric, value in row.get("difference", {}).items():
            mean, low, high = (100 * value[side] for side in ("mean", "low", "high"))
            lines.append(f"  {'':32} {metric} {mean:+.2f} [{low:+.2f}, {high:+.2f}]")
    return lines


def written() -> dict[str, Rows]:
    """{data set: its strategies} of the results that are there."""
    results = (json.loads(file.read_text()) for file in sorted(FOLDER.glob("quotas_*.json")))
    return {r["name"].removeprefix("quotas_"): r["details"]["strategies"] for r in results}


@styled
def draw(results: Mapping[str, Rows]) -> Figure:
    """A panel a data set: recall against relevance, the curve of fixed alphas and the strategies.

    The ceiling is left out: it is far above, and its figure stands in the table.
    """
    figure = Figure(figsize=(11.5, 4.6), layout="constrained")
    panels = figure.subplots(1, len(results), squeeze=False)[0]
    for axes, (data, rows) in zip(panels, results.items(), strict=True):
        _panel(axes, rows)
        axes.set_title(data, size=11, loc="left", color=INK)
        axes.set_xlabel("L2 relevance, %")
    panels[0].set_ylabel("recall@500, %")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    return figure


def _panel(axes: Axes, rows: Rows) -> None:
    """One data set: means over the seeds."""

    def point(name: str) -> tuple[float, float]:
        row = rows[name]
        return 100 * row["l2_relevance"]["mean"], 100 * row["recall_at_500"]["mean"]

    x, y = zip(*map(point, FIXED), strict=True)
    axes.plot(x, y, color=QUIET, marker="o", markersize=4, label="fixed alpha", zorder=1)
    for alpha in (0, 30, 50, 70, 100):
        where = point(f"fixed alpha {alpha}")
        axes.annotate(
            str(alpha), where, xytext=(4, -11), textcoords="offset points", color=QUIET, fontsize=8
        )
    for name in rows:
        if name in (BEST, CEILING, *FIXED):
            continue
        color = COLORS["engagement" if "past" in name else "merged"]
        # A table's two kinds of cells differ in what is filled.
        face = "none" if "cluster" in name else color
        marker = MARKERS[name.split(maxsplit=1)[0].strip(",").split("-")[0]]
        axes.plot(*point(name), marker, color=color, markerfacecolor=face, label=name, markersize=7)
