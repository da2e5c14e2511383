"""The page's pictures: lifts with both of their intervals, side by side and over the days."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.dates import ConciseDateFormatter, DayLocator
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mtmh.display import visible
from mtmh.report.plots import INK, STYLE

OK, BAD, OPEN = "#17673a", "#a61b1b", "#0b5cad"
WIDTH = 4.8  # inches: a phone's width at a readable size
LABEL = 32  # letters of a label: a longer one leaves no room for its line
FURTHEST = 4.0  # an interval that reaches this many times as far as the median one is cut, and marked with an arrow


@dataclass(frozen=True)
class PlottedLift:
    """One row of a forest plot; lift and bounds are relative changes, -1 .. inf, NaN where there is none."""

    label: str
    lift: float
    lo: float
    hi: float
    always_lo: float
    always_hi: float
    sign: int  # 1 or -1 where the change is told from chance, else 0
    better: str = "neutral"  # what a rise is: better, worse or neutral
    whole: bool = False  # the axis reaches as far as this one does, whatever the others do

    @property
    def color(self) -> str:
        """Of a change for the better, for the worse, or neither."""
        if not self.sign or self.better == "neutral":
            return OPEN
        return OK if (self.sign > 0) is (self.better == "better") else BAD


def forest(lines: Sequence[PlottedLift]) -> Figure:
    """Lifts in percent, one below the other: point, thick fixed 95 % interval, thin always-valid one."""
    shown = [line for line in lines if np.isfinite([line.lift, line.always_lo, line.always_hi]).all()]
    reach = _reach(shown)
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.75 + 0.3 * max(len(shown), 1)), layout="constrained")
        axes = figure.add_subplot(xlabel="change against control, %")
        axes.axvline(0, color=INK, linewidth=1)
        axes.grid(axis="y", visible=False)
        for place, line in enumerate(reversed(shown)):
            _interval(axes, place, line, reach)
        axes.set_yticks(range(len(shown)), [visible(line.label, LABEL) for line in reversed(shown)])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(-0.7, len(shown) - 0.3)
        ends = np.clip([100 * end for line in shown for end in (line.always_lo, line.always_hi)], -reach, reach)
        low, high = ends.min(initial=0.0), ends.max(initial=0.0)
        room = 0.06 * (high - low) or 1.0
        axes.set_xlim(low - room, high + room)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    return figure


def over_days(days: Sequence[date], lines: Sequence[PlottedLift]) -> Figure:
    """One metric's lift in percent, from the first day to each: line, inner band fixed, outer band always-valid."""
    columns = ("lift", "lo", "hi", "always_lo", "always_hi")
    values = {name: 100 * np.array([getattr(line, name) for line in lines], float) for name in columns}
    color = lines[-1].color
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        axes = figure.add_subplot(ylabel="change, %")
        at = np.array(days, "datetime64[D]")
        axes.fill_between(at, values["always_lo"], values["always_hi"], color=color, alpha=0.14, linewidth=0)
        axes.fill_between(at, values["lo"], values["hi"], color=color, alpha=0.25, linewidth=0)
        axes.plot(at, values["lift"], color=color, marker="o", markersize=4, linewidth=1.8)
        axes.axhline(0, color=INK, linewidth=1)
        _look_at_the_end(axes, values["always_lo"], values["always_hi"])
        locator = DayLocator(interval=max(1, len(days) // 7))
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes.margins(x=0.03)
        if len(days) == 1:
            axes.set_xlim(at[0] - 1, at[0] + 1)
    return figure


def _tick(value: float, _: int) -> str:
    return f"{value:+g}".replace("-", "\u2212") if value else "0"


def _interval(axes: Axes, place: int, line: PlottedLift, reach: float) -> None:
    lift, *ends = (100 * value for value in (line.lift, line.lo, line.hi, line.always_lo, line.always_hi))
    lo, hi, always_lo, always_hi = np.clip(ends, -reach, reach)
    axes.plot([always_lo, always_hi], [place, place], color=line.color, linewidth=1.2)
    axes.plot([lo, hi], [place, place], color=line.color, linewidth=4.5, solid_capstyle="butt")
    for end, arrow in ((ends[2], "<"), (ends[3], ">")):
        mark = "|" if abs(end) <= reach else arrow if (end < 0) is (arrow == "<") else ""
        axes.plot([np.clip(end, -reach, reach)], [place], marker=mark, color=line.color, markersize=7)
    if abs(lift) > reach:
        side = 1 if lift > 0 else -1
        words = f"{lift:+.0f} %".replace("-", "\u2212")
        axes.annotate(
            words, (side * reach, place), (-11 * side, 0), textcoords="offset points", color=line.color,
            ha="right" if side > 0 else "left", va="center", backgroundcolor="white",
        )  # fmt: skip
        return
    shape = {1: "^", -1: "v", 0: "o"}[line.sign]
    axes.plot([lift], [place], marker=shape, color=line.color, markersize=6.5, mec="white", mew=0.9)


def _reach(lines: Sequence[PlottedLift]) -> float:
    """How far the axis goes to both sides, in percent: as far as any interval, but for those out of all proportion."""
    ends = 100 * np.array([max(abs(line.always_lo), abs(line.always_hi)) for line in lines])
    if not len(ends):
        return 1.0
    whole = np.array([line.whole for line in lines])
    return float(max(ends[whole | (ends <= FURTHEST * np.median(ends))].max(), 0.1))


def _look_at_the_end(axes: Axes, low: np.ndarray, high: np.ndarray) -> None:
    """The first days' bands are so wide that nothing else would be seen: the later half of the days sets the scale."""
    late = slice(len(low) // 2, None)
    ends = np.concatenate([low[late], high[late], [0.0]])
    ends = ends[np.isfinite(ends)]
    room = 0.35 * (ends.max() - ends.min()) or 1.0
    axes.set_ylim(ends.min() - room, ends.max() + room)
