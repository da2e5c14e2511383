"""The recall-relevance frontier of two heads over (w_r, tau_q, alpha), with the models of the
leaderboard as points (paper section 6, Table 4 and Figure 6).

A model is trained for each w_r and tau_q, and its two lists are merged at each alpha: exact lists
on the validation tail of T1, without a preranker, all other settings as the row `mtmh` of the
leaderboard has them. A point is on the frontier where no other has as much of both and more of one.
"""

import itertools
import json
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from benchmarks.leaderboard.systems import SYSTEMS, as_settings, retriever_of
from benchmarks.result import FOLDER
from benchmarks.studies.grids import ONE_WORLD, SEEDS, WORLD_ALONE, Setting, Study, swept
from benchmarks.studies.study import (
    Data,
    Outcome,
    Seeds,
    Settings,
    Trials,
    config_of,
    existing,
    run,
    short_name,
)
from benchmarks.style import COLORS, INK, LINES, QUIET, save, styled
from mtmh.baselines.protocol import load_test
from mtmh.data.prepared import Prepared
from mtmh.evaluation.evaluate import measure, summary
from mtmh.retrieval.retriever import Request, merge_pools
from pipelines.trial import Figures, model_folders, scratch

W_R, TAU_Q = (0.25, 0.5, 1.0, 2.0), (0.03, 0.05, 0.1)
ALPHAS = (0, 30, 50, 70, 100)
AXES = ("recall_at_500", "l2_relevance")
SERVED = f"alpha {ALPHAS[2]}"
GRID = list(itertools.product(W_R, TAU_Q))
Points = list[dict[str, Any]]


def main(data: Data = WORLD_ALONE, seeds: Seeds = SEEDS, settings: Settings = None) -> None:
    """Every (w_r, tau_q, alpha), the frontier, and which models of the leaderboard are beyond."""
    settings_of = {(w_r, tau_q): swept("w_r", w_r) + swept("tau_q", tau_q) for w_r, tau_q in GRID}
    study = Study([(), *settings_of.values()], AXES, merge=SERVED)
    for source in existing(data):
        data_name = short_name(source)
        rows = leaderboard(data_name)
        # What the leaderboard's trials chose for mtmh, so that a point is as tuned as its rivals.
        base = as_settings(rows["mtmh"]["settings"]) if "mtmh" in rows else ()
        base += (ONE_WORLD,) if source == "synthetic" else ()
        run("frontier", judge, [source], seeds, (*base, *(settings or ())), merges, study)
        name = f"frontier_{data_name}"
        details = json.loads((FOLDER / f"{name}.json").read_text())["details"]
        save(draw(details), FOLDER / f"{name}.png")


def merges(source: str, setting: Setting, seed: int) -> Figures:
    """The merge's figures at each alpha; the trained model is read where it is there."""
    config = config_of(source, (*setting, "data.period=validation"), seed)
    folders = model_folders(source, config, scratch(source))
    data, retrieval = Prepared.load(folders.prepared), config.retrieval
    test = load_test(data, folders.content, retrieval, config.evaluation.fresh_hours)
    retriever = retriever_of(folders, config, preranked=False)
    request = Request.of(test.triggers, test.seen, retrieval)
    # The heads' lists are retrieved once, and merged at every alpha.
    pools = list(retriever.pools(request).values())
    figures: Figures = {}
    for alpha in ALPHAS:
        pool = merge_pools(pools, retriever.quotas(alpha), request.size)
        figures[f"alpha {alpha}"] = summary(measure(pool, test), pool, test)
    return figures


def judge(trials: Trials) -> Outcome:
    """How many models of the leaderboard no point is above on both axes."""
    # All points of all models, the first setting left out: it is what serves.
    points: Points = []
    for (w_r, tau_q), setting in zip(GRID, list(trials.runs)[1:], strict=True):
        table = trials.table(setting)
        points += [
            {"w_r": w_r, "tau_q": tau_q, "alpha": alpha, **table[f"alpha {alpha}"]}
            for alpha in ALPHAS
        ]
    # The frontier, and what of the leaderboard lies beyond it, by the means over the seeds.
    means = [tuple(point[axis]["mean"] for axis in AXES) for point in points]
    for point, mean in zip(points, means, strict=True):
        point["on_frontier"] = not any(is_above(other, mean) for other in means)
    rows = leaderboard(short_name(trials.source))
    # Not those of two heads like these, and what ranks their lists again.
    models = {
        name: tuple(row[axis]["mean"] for axis in AXES)
        for name, row in rows.items()
        if not name.startswith("mtmh")
    }
    beyond = [name for name, mean in models.items() if not any(is_above(m, mean) for m in means)]
    details = {"period": "validation tail of T1", "seeds": trials.seeds, "points": points}
    details |= {
        "base": trials.base,
        "models": models,
        "beyond": beyond,
        "served": trials.table(())[SERVED],
    }
    unit = "models of the leaderboard that no (w_r, tau_q, alpha) is above on both axes, of all"
    return Outcome(len(beyond), unit, len(models), details, lines(details))


def is_above(point: Sequence[float], other: Sequence[float]) -> bool:
    """As much of both, and more of one."""
    return point[0] >= other[0] and point[1] >= other[1] and tuple(point) != tuple(other)


def leaderboard(data: str) -> dict[str, Any]:
    """The rows of its models that have both figures; none where there is no leaderboard."""
    file = FOLDER / f"leaderboard_{data}.json"
    rows = json.loads(file.read_text())["models"] if file.exists() else {}
    return {name: row for name, row in rows.items() if all(axis in row for axis in AXES)}


def lines(details: dict[str, Any]) -> list[str]:
    """For the screen: the frontier by recall, and the models beyond it."""
    best = [point for point in details["points"] if point["on_frontier"]]
    text = ["  the frontier, percent:  w_r  tau_q  alpha  R@500  L2"]
    for point in sorted(best, key=lambda point: -point[AXES[0]]["mean"]):
        recall, relevance = (100 * point[axis]["mean"] for axis in AXES)
        chosen = f"{point['w_r']:4}  {point['tau_q']:5}  {point['alpha']:5}"
        text.append(f"  {'':23} {chosen}  {recall:5.1f}  {relevance:4.1f}")
    return [*text, f"  beyond it: {', '.join(details['beyond']) or 'none'}"]


@styled
def draw(details: dict[str, Any]) -> Figure:
    """A line a model through its alphas, a color a w_r; the frontier; the leaderboard's models."""
    figure = Figure(figsize=(9.5, 6.4), layout="constrained")
    axes = figure.subplots()
    weights = sorted({point["w_r"] for point in details["points"]})
    colors = dict(zip(weights, (*(color for color, _, _ in LINES), QUIET), strict=False))
    labeled = set[float]()
    # The points of a model lie one after the other, by alpha.
    for (w_r, _), of_model in itertools.groupby(
        details["points"], lambda p: (p["w_r"], p["tau_q"])
    ):
        points = [[100 * point[axis]["mean"] for axis in AXES] for point in of_model]
        label = "" if w_r in labeled else f"w_r {w_r}"
        labeled.add(w_r)
        axes.plot(*zip(*points, strict=True), color=colors[w_r], marker=".", label=label)
    # The frontier from its most relevant end to the one of most recall.
    best = sorted(
        [100 * point[axis]["mean"] for axis in AXES]
        for point in details["points"]
        if point["on_frontier"]
    )
    axes.plot(*zip(*best, strict=True), color=INK, linewidth=2.2, alpha=0.4, label="frontier")
    for name, mean in details["models"].items():
        x, y = (100 * value for value in mean)
        color = COLORS["merged"] if name in SYSTEMS else QUIET
        axes.plot([x], [y], color=color, marker="s", markersize=4, linestyle="")
        axes.annotate(
            name.replace("_", " "), (x, y), (4, 4), textcoords="offset points", fontsize=8
        )
    axes.legend(frameon=False, labelcolor=INK)
    axes.set_xlabel("recall@500, %")
    axes.set_ylabel("L2 relevance, %")
    return figure
