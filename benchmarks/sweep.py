"""What w_r and both temperatures do to recall and relevance: two data sets, three seeds, validation tail of T1.

Reads the folders named in MTMH_BENCH_DATA (default: ../shared/data/yelp2019 and ../shared/data/amazon-beauty) and
writes one result a folder, sweep_<folder>.json, and one picture of all that are kept, sweep.png. MTMH_BENCH_SWEPT names
what is swept (default: w_r tau_p tau_q); all else is as a run over that data set has it. Told are recall@500 and L2
relevance of the merge, and their change in percent against the reference (w_r 0.5 as in the paper's Table 4, tau_p 0.1,
tau_q 0.05) at the same seed: mean [least, most] over the seeds.
"""

import json
import os
from collections.abc import Mapping
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.quality import folders
from benchmarks.result import FOLDER, Spread, spread, write
from benchmarks.trials import Setting, each, try_all
from mtmh.errors import UserError
from mtmh.report.plots import INK, QUIET, STYLE
from pipelines.trial import Figures

SWEPT = {  # what stands where, and what it is compared with
    "w_r": ((0.0, 0.25, 0.5, 1.0, 5.0), 0.5),
    "tau_p": ((0.07, 0.1, 0.15), 0.1),
    "tau_q": ((0.03, 0.05, 0.07, 0.1), 0.05),
}
MEASURES = {"recall_at_500": "recall@500", "l2_relevance": "L2 relevance"}
PAPER = {0.0: (-2.99, -19.87), 0.25: (0.96, -5.54), 0.5: (0.0, 0.0), 1.0: (-0.09, 4.45), 5.0: (-7.38, 13.22)}
TITLES = {"w_r": "Weight of the distillation", "tau_p": "Student's temperature", "tau_q": "Teacher's temperature"}
LOOKS = (("#0b5cad", "o", "-"), ("#b4500b", "s", "--"), ("#5a2ca0", "^", "-."))  # told apart without color too

Changes = dict[str, dict[float, dict[str, Spread]]]  # {swept: {value: {metric: change in percent}}}


def main() -> None:
    """Try every value, compare with the reference, draw."""
    wanted = asked()
    for data in folders():
        settings = [setting(swept, value) for swept in wanted for value in SWEPT[swept][0]]
        found = try_all(data, settings)
        told = {swept: changes(found, swept) for swept in wanted}
        rises = relevance_rises(found) if "w_r" in wanted else []
        _write(data.resolve().name, found, told, rises)
        print("\n".join(table(told)))
        if rises:
            print(f"  {'holds' if all(rises) else 'FAILS'} at {sum(rises)} of {len(rises)} seeds: L2 rises with w_r")
    with rc_context(STYLE):
        draw(kept()).savefig(FOLDER / "sweep.png", dpi=160)
    print(f"wrote {FOLDER / 'sweep.png'}")


def asked() -> list[str]:
    """What is to be swept, of SWEPT."""
    names = os.environ.get("MTMH_BENCH_SWEPT", " ".join(SWEPT)).split()
    if unknown := sorted(set(names) - set(SWEPT)):
        raise UserError(f"MTMH_BENCH_SWEPT: there is no {unknown[0]!a} to sweep; write some of {', '.join(SWEPT)}.")
    return names


def kept() -> dict[str, dict[str, dict[str, dict[str, Spread]]]]:
    """{data set and where it stands at the reference: its changes, {swept: {value: {metric: change}}}}, of results."""
    results = [json.loads(file.read_text()) for file in sorted(FOLDER.glob("sweep_*.json"))]
    return {_label(one): one["details"]["change_in_percent"] for one in results}


def setting(swept: str, value: float) -> Setting:
    """As `--set` takes it."""
    return (f"train.{swept}={value}",)


def changes(found: Mapping[Setting, list[Figures]], swept: str) -> dict[float, dict[str, Spread]]:
    """{value: {metric: change of the merge against the reference at the same seed, in percent}} of MEASURES."""
    values, reference = SWEPT[swept]
    base = found[setting(swept, reference)]
    return {
        value: {metric: spread(_change(found[setting(swept, value)], base, metric)) for metric in MEASURES}
        for value in values
    }


def _change(runs: list[Figures], base: list[Figures], metric: str) -> list[float]:
    return [100 * (one / other - 1) for one, other in zip(each(runs, metric), each(base, metric), strict=True)]


def _label(result: Mapping[str, Any]) -> str:
    """The data set and where it stands at the first reference: changes alone do not tell."""
    details, swept = result["details"], next(iter(result["details"]["change_in_percent"]))
    at = details["merged"][setting(swept, SWEPT[swept][1])[0]]
    recall, relevance = (100 * at[metric]["mean"] for metric in MEASURES)
    name = result["name"].removeprefix("sweep_")
    return f"{name} (at {swept} {SWEPT[swept][1]:g}: recall {recall:.1f} %, L2 {relevance:.1f} %)"


def relevance_rises(found: Mapping[Setting, list[Figures]]) -> list[bool]:
    """For each seed: does L2 relevance of the merge rise with every step of w_r (paper, Table 4)?"""
    by_value = [each(found[setting("w_r", value)], "l2_relevance") for value in SWEPT["w_r"][0]]
    return [list(rising) == sorted(rising) for rising in zip(*by_value, strict=True)]


def table(told: Changes) -> list[str]:
    """Lines for the screen: change in percent, mean [least, most], the paper's beside ours where it has one."""
    lines = ["  change against the reference, percent: mean [least, most]"]
    for swept, values in told.items():
        for value, figures in values.items():
            ours = "  ".join(f"{MEASURES[metric]} {_percent(one)}" for metric, one in figures.items())
            paper = "  paper {:+.2f}, {:+.2f}".format(*PAPER[value]) if swept == "w_r" else ""
            reference = "  (reference)" if value == SWEPT[swept][1] else ""
            lines.append(f"  {swept:5} {value:<5g} {ours}{paper}{reference}")
    return lines


def draw(found: Mapping[str, Mapping[str, Any]]) -> Figure:
    """A column a swept setting, recall above, relevance below; a line a data set of `kept`, bars from least to most.

    The temperatures share their scale; w_r, which does far more, has its own.
    """
    figure = Figure(figsize=(11.5, 6.2), layout="constrained")
    panels = figure.subplots(2, len(SWEPT), sharex="col", width_ratios=[5, 3.6, 4.2])
    for temperatures in panels[:, 1:]:
        temperatures[0].sharey(temperatures[1])
    for column, (swept, (values, reference)) in enumerate(SWEPT.items()):
        for row, (metric, words) in enumerate(MEASURES.items()):
            axes = panels[row, column]
            axes.axhline(0, color=QUIET, linewidth=0.8, zorder=1)
            axes.axvline(values.index(reference), color=QUIET, linewidth=0.8, linestyle=":", zorder=1)
            if swept == "w_r":
                paper = [PAPER[value][row] for value in values]
                axes.plot(paper, color=QUIET, marker="D", markersize=5, linestyle=":", label="paper, Table 4")
            for place, (data, told) in enumerate(found.items()):
                shift, look = 0.14 * (place - (len(found) - 1) / 2), LOOKS[place % len(LOOKS)]
                if swept in told:
                    _line(axes, [told[swept][str(value)][metric] for value in values], shift, *look, data)
            axes.set_xticks(range(len(values)), [f"{value:g}" for value in values])
            axes.margins(x=0.12)
            if column == 0:
                axes.set_ylabel(f"{words} of the merge,\nchange in %")
        panels[0, column].set_title(TITLES[swept], size=11, loc="left", color=INK)
        panels[1, column].set_xlabel(f"{swept}, compared with {reference:g}")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure


def _line(axes: Axes, told: list[Spread], shift: float, color: str, marker: str, dash: str, label: str) -> None:
    """Means, with bars from least to most; lines lie beside each other by `shift` so that no bar hides another."""
    mean = [one["mean"] for one in told]
    bars = [[one["mean"] - one["min"] for one in told], [one["max"] - one["mean"] for one in told]]
    at = [place + shift for place in range(len(told))]
    axes.errorbar(at, mean, yerr=bars, color=color, marker=marker, linestyle=dash, capsize=3, markersize=6, label=label)


def _write(name: str, found: Mapping[Setting, list[Figures]], told: Changes, rises: list[bool]) -> None:
    """One result: every figure behind the changes, and the paper's own changes."""
    ours = {" ".join(one): {metric: spread(each(runs, metric)) for metric in MEASURES} for one, runs in found.items()}
    details = {
        "period": "validation tail of T1",
        "seeds": len(rises),
        "relevance_rises_with_w_r": rises,
        "merged": ours,
        "change_in_percent": {
            swept: {str(value): one for value, one in values.items()} for swept, values in told.items()
        },
        "paper_change_in_percent": {value: dict(zip(MEASURES, pair, strict=True)) for value, pair in PAPER.items()},
    }
    swept = next(iter(told))  # w_r where all are swept: 0.5 beside 0
    (least, *_), reference = SWEPT[swept]
    at, beside = (ours[setting(swept, value)[0]]["l2_relevance"]["mean"] for value in (reference, least))
    write(f"sweep_{name}", at, f"L2 relevance of the merge at {swept} {reference}, beside {least}", beside, details)


def _percent(found: Spread) -> str:
    return f"{found['mean']:+6.2f} [{found['min']:+.2f}, {found['max']:+.2f}]"
