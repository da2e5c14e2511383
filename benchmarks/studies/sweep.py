"""What w_r and both temperatures do to recall and relevance, on the validation tail of T1.

All else is as a run over the data set has it. Printed are recall@500 and L2 relevance of the merge
as changes in percent against the reference (w_r 0.5 as in the paper's Table 4, tau_p 0.1, tau_q
0.05) at the same seed: mean [least, most] over the seeds. One picture, sweep.png, shows all results
that are there.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any

import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.result import FOLDER, Spread, spread
from benchmarks.studies.grids import DATA, SEEDS, STUDIES, SWEPT, swept
from benchmarks.studies.study import Data, Outcome, Seeds, Settings, Trials, run
from benchmarks.style import INK, LINES, QUIET, save, styled
from mtmh.errors import UserError

NAMES = list(SWEPT)
MEASURES = {"recall_at_500": "recall@500", "l2_relevance": "L2 relevance"}
PAPER = {
    0.0: (-2.99, -19.87),
    0.25: (0.96, -5.54),
    0.5: (0.0, 0.0),
    1.0: (-0.09, 4.45),
    5.0: (-7.38, 13.22),
}
TITLES = {
    "w_r": "Weight of the distillation",
    "tau_p": "Student's temperature",
    "tau_q": "Teacher's temperature",
}

# {setting: {value: {metric: change in percent}}}
Changes = dict[str, dict[float, dict[str, Spread]]]


def main(
    data: Data = DATA,
    seeds: Seeds = SEEDS,
    settings: Settings = None,
    sweep: Annotated[
        list[str], typer.Option(help="What to sweep; may be given many times.")
    ] = NAMES,
) -> None:
    """Recall and relevance at several values of w_r and the temperatures, with a picture of
    both."""
    if unknown := sorted(set(sweep) - set(SWEPT)):
        raise UserError(f"--sweep {unknown[0]}: write some of {', '.join(SWEPT)}.")
    study = replace(
        STUDIES["sweep"],
        settings=[swept(name, value) for name in sweep for value in SWEPT[name][0]],
    )
    run("sweep", partial(judge, sweep), data, seeds, settings, study=study)
    save(draw(written()), FOLDER / "sweep.png")


def judge(names: Sequence[str], trials: Trials) -> Outcome:
    """L2 relevance at the reference of the first of `names`, beside that at its least value."""
    by_name = {name: changes(trials, name) for name in names}
    # The paper claims this of w_r alone.
    rises = relevance_rises(trials) if "w_r" in names else []
    # The figures themselves as well: changes do not say where a data set stands.
    merged = {" ".join(setting): trials.table(setting)["merged"] for setting in trials.runs}
    details = {
        "period": "validation tail of T1",
        "seeds": trials.seeds,
        "relevance_rises_with_w_r": rises,
        "merged": merged,
        "change_in_percent": {
            name: {str(value): change for value, change in values.items()}
            for name, values in by_name.items()
        },
        "paper_change_in_percent": {
            value: dict(zip(MEASURES, pair, strict=True)) for value, pair in PAPER.items()
        },
    }
    text = table(by_name)
    if rises:
        text.append(
            f"  {'holds' if all(rises) else 'FAILS'} at {sum(rises)} of {len(rises)} seeds:"
            " L2 rises with w_r"
        )
    first = names[0]  # w_r where all are swept: 0.5 beside 0
    (least, *_), reference = SWEPT[first]
    value, baseline = (
        merged[swept(first, v)[0]]["l2_relevance"]["mean"] for v in (reference, least)
    )
    unit = f"L2 relevance of the merge at {first} {reference}, beside {least}"
    return Outcome(value, unit, baseline, details, text)


def changes(trials: Trials, name: str) -> dict[float, dict[str, Spread]]:
    """{value: {metric: change of the merge against the reference at the same seed, in percent}} of
    MEASURES."""
    values, reference = SWEPT[name]

    def change(value: float, metric: str) -> list[float]:
        runs, base = (trials.figures(swept(name, v), metric) for v in (value, reference))
        return [100 * (figure / other - 1) for figure, other in zip(runs, base, strict=True)]

    return {
        value: {metric: spread(change(value, metric)) for metric in MEASURES} for value in values
    }


def relevance_rises(trials: Trials) -> list[bool]:
    """For each seed: does L2 relevance of the merge rise with every step of w_r (paper, Table
    4)?"""
    by_value = [trials.figures(swept("w_r", value), "l2_relevance") for value in SWEPT["w_r"][0]]
    return [list(rising) == sorted(rising) for rising in zip(*by_value, strict=True)]


def table(by_name: Changes) -> list[str]:
    """Lines for the screen: change in percent, mean [least, most], the paper's beside ours where it
    has one."""
    lines = ["  change against the reference, percent: mean [least, most]"]
    for name, values in by_name.items():
        for value, row in values.items():
            ours = "  ".join(
                f"{MEASURES[metric]} {change['mean']:+6.2f}"
                f" [{change['min']:+.2f}, {change['max']:+.2f}]"
                for metric, change in row.items()
            )
            paper = "  paper {:+.2f}, {:+.2f}".format(*PAPER[value]) if name == "w_r" else ""
            reference = "  (reference)" if value == SWEPT[name][1] else ""
            lines.append(f"  {name:5} {value:<5g} {ours}{paper}{reference}")
    return lines


def written() -> dict[str, Any]:
    """{data set and where it stands at the reference: its changes, {name: {value: {metric:
    change}}}}, of results."""
    changes = {}
    for file in sorted(FOLDER.glob("sweep_*.json")):
        result = json.loads(file.read_text())
        details, data = result["details"], result["name"].removeprefix("sweep_")
        # Where the data set stands at the first reference: changes alone do not say.
        name = next(iter(details["change_in_percent"]))
        reference = SWEPT[name][1]
        figures = details["merged"][swept(name, reference)[0]]
        recall, relevance = (100 * figures[metric]["mean"] for metric in MEASURES)
        stands = f"at {name} {reference:g}: recall {recall:.1f} %, L2 {relevance:.1f} %"
        changes[f"{data} ({stands})"] = details["change_in_percent"]
    return changes


@styled
def draw(results: Mapping[str, Mapping[str, Any]]) -> Figure:
    """A column a swept setting, recall above, relevance below; a line a data set of `written`, bars
    least to most.

    The temperatures share their scale; w_r, which does far more, has its own.
    """
    figure = Figure(figsize=(11.5, 6.2), layout="constrained")
    panels = figure.subplots(2, len(SWEPT), sharex="col", width_ratios=[5, 3.6, 4.2])
    for temperatures in panels[:, 1:]:
        temperatures[0].sharey(temperatures[1])
    for column, (name, (_, reference)) in enumerate(SWEPT.items()):
        for row, metric in enumerate(MEASURES):
            _panel(panels[row, column], name, metric, results)
        panels[0, column].set_title(TITLES[name], size=11, loc="left", color=INK)
        panels[1, column].set_xlabel(f"{name}, compared with {reference:g}")
    for axes, words in zip(panels[:, 0], MEASURES.values(), strict=True):
        axes.set_ylabel(f"{words} of the merge,\nchange in %")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure


def _panel(axes: Axes, name: str, metric: str, results: Mapping[str, Mapping[str, Any]]) -> None:
    """One metric over the values of one setting: the paper's, and means with bars from least to
    most of each result."""
    values, reference = SWEPT[name]
    axes.axhline(0, color=QUIET, linewidth=0.8, zorder=1)
    axes.axvline(values.index(reference), color=QUIET, linewidth=0.8, linestyle=":", zorder=1)
    if name == "w_r":
        paper = [PAPER[value][list(MEASURES).index(metric)] for value in values]
        axes.plot(
            paper, color=QUIET, marker="D", markersize=5, linestyle=":", label="paper, Table 4"
        )
    for number, (data, by_name) in enumerate(results.items()):
        if name not in by_name:
            continue
        changed = [by_name[name][str(value)][metric] for value in values]
        mean = [change["mean"] for change in changed]
        bars = [[change["mean"] - change["min"] for change in changed]]
        bars += [[change["max"] - change["mean"] for change in changed]]
        # The lines lie a little beside each other, so that no bar hides another.
        x = [position + 0.14 * (number - (len(results) - 1) / 2) for position in range(len(values))]
        color, marker, dash = LINES[number % len(LINES)]
        axes.errorbar(
            x,
            mean,
            bars,
            color=color,
            marker=marker,
            linestyle=dash,
            capsize=3,
            markersize=6,
            label=data,
        )
    axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
    axes.margins(x=0.12)
