"""What w_r and both temperatures do to recall and relevance: two data sets, three seeds, validation tail of T1.

Reads the folders named in MTMH_BENCH_DATA (default: ../shared/data/yelp2019 and ../shared/data/amazon-beauty) and
writes one result a folder, sweep_<folder>.json, and one picture of all, sweep.png. All else is as a run over that data
set has it. Told are recall@500 and L2 relevance of the merge, and their change in percent against the reference (w_r
0.5 as in the paper's Table 4, tau_p 0.1, tau_q 0.05) at the same seed: mean [least, most] over the seeds.
"""

from collections.abc import Mapping

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.quality import folders
from benchmarks.result import FOLDER, Spread, spread, write
from benchmarks.trials import Setting, each, try_all
from mtmh.evaluation.figures import INK, QUIET, STYLE
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
    drawn: dict[str, Changes] = {}
    for data in folders():
        name = data.resolve().name
        found = try_all(data, [setting(swept, value) for swept, (values, _) in SWEPT.items() for value in values])
        told = {swept: changes(found, swept) for swept in SWEPT}
        rises = relevance_rises(found)
        _write(name, found, told, rises)
        print("\n".join(table(told)))
        drawn[label(name, found)] = told
        print(f"  {'holds' if all(rises) else 'FAILS'} at {sum(rises)} of {len(rises)} seeds: L2 rises with w_r")
    with rc_context(STYLE):
        draw(drawn).savefig(FOLDER / "sweep.png", dpi=160)
    print(f"wrote {FOLDER / 'sweep.png'}")


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


def label(name: str, found: Mapping[Setting, list[Figures]]) -> str:
    """The data set and where it stands at the reference: changes alone do not tell."""
    runs = found[setting("w_r", SWEPT["w_r"][1])]
    recall, relevance = (100 * spread(each(runs, metric))["mean"] for metric in MEASURES)
    return f"{name} (at w_r {SWEPT['w_r'][1]:g}: recall {recall:.1f} %, L2 {relevance:.1f} %)"


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


def draw(found: Mapping[str, Changes]) -> Figure:
    """A column a swept setting, recall above, relevance below; a line a data set, bars from least to most seed.

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
                shift = 0.14 * (place - (len(found) - 1) / 2)
                _line(axes, [told[swept][value][metric] for value in values], shift, *LOOKS[place % len(LOOKS)], data)
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
        "change_in_percent": told,
        "paper_change_in_percent": {value: dict(zip(MEASURES, pair, strict=True)) for value, pair in PAPER.items()},
    }
    with_, without = (ours[setting("w_r", value)[0]]["l2_relevance"]["mean"] for value in (0.5, 0.0))
    write(f"sweep_{name}", with_, "L2 relevance of the merge at w_r 0.5, beside w_r 0", without, details)


def _percent(found: Spread) -> str:
    return f"{found['mean']:+6.2f} [{found['min']:+.2f}, {found['max']:+.2f}]"
