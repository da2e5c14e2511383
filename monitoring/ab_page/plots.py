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
from mtmh.experiment.metrics import METRICS
from mtmh.experiment.statistics.effects import Effect
from mtmh.experiment.verdict import GUARDRAILS, PRIMARY
from mtmh.report.plots import INK, STYLE

BOUNDS = ("lift", "lo", "hi", "always_lo", "always_hi")
OK, BAD, OPEN = "#17673a", "#a61b1b", "#0b5cad"
WIDTH = 4.8  # inches: a phone's width at a readable size
LABEL = 32  # letters of a label: a longer one leaves no room for its line
# An interval that reaches this many times as far as the median one is cut, and gets an arrow.
FURTHEST = 4.0


@dataclass(frozen=True)
class PlottedLift:
    """One row of a forest plot; lift and bounds are relative changes, -1 .. inf, NaN where there is
    none.
    """

    label: str
    lift: float
    lo: float
    hi: float
    always_lo: float
    always_hi: float
    sign: int  # 1 or -1 where the change is more than chance, else 0
    better: str = "neutral"  # what a rise is: better, worse or neutral
    whole: bool = False  # the axis reaches as far as this one does, whatever the others do

    @property
    def color(self) -> str:
        """Of a change for the better, for the worse, or neither."""
        if not self.sign or self.better == "neutral":
            return OPEN
        return OK if (self.sign > 0) is (self.better == "better") else BAD

    def draw(self, axes: Axes, y: int, reach: float) -> None:
        """The row at height `y`; what lies beyond `reach` percent is cut, and marked."""
        lift = 100 * self.lift
        ends = [100 * value for value in (self.lo, self.hi, self.always_lo, self.always_hi)]
        lo, hi, always_lo, always_hi = np.clip(ends, -reach, reach)
        # The always-valid interval is thin, the fixed one thick over it: both can be seen.
        axes.plot([always_lo, always_hi], [y, y], color=self.color, linewidth=1.2)
        axes.plot([lo, hi], [y, y], color=self.color, linewidth=4.5, solid_capstyle="butt")
        # An arrow says that the interval goes on; one that lies beyond the axis gets a single one.
        for end, arrow in ((ends[2], "<"), (ends[3], ">")):
            mark = "|" if abs(end) <= reach else arrow if (end < 0) is (arrow == "<") else ""
            x = np.clip(end, -reach, reach)
            axes.plot([x], [y], marker=mark, color=self.color, markersize=7)
        if abs(lift) > reach:  # the lift in words, at the axis' end
            side = 1 if lift > 0 else -1
            axes.annotate(
                f"{lift:+.0f} %".replace("-", "\u2212"),
                (side * reach, y),
                (-11 * side, 0),
                textcoords="offset points",
                color=self.color,
                ha="right" if side > 0 else "left",
                va="center",
                backgroundcolor="white",
            )
        else:
            # The shape says without color where the change goes; a circle may be chance.
            shape = {1: "^", -1: "v", 0: "o"}[self.sign]
            axes.plot(
                [lift], [y], marker=shape, color=self.color, markersize=6.5, mec="white", mew=0.9
            )


def lift_of(effect: Effect, sign: int, label: str = "") -> PlottedLift:
    """An effect's row, by default under the metric's title."""
    metric = METRICS[effect.metric]
    return PlottedLift(
        label or metric.title,
        **{key: getattr(effect, key) for key in BOUNDS},
        sign=sign,
        better=metric.higher,
        whole=effect.metric in (PRIMARY, *GUARDRAILS),
    )


def forest(lines: Sequence[PlottedLift]) -> Figure:
    """Lifts in percent, one below the other: point, thick fixed 95 % interval, thin always-valid
    one.
    """
    rows = [
        line
        for line in reversed(lines)
        if np.isfinite([line.lift, line.always_lo, line.always_hi]).all()
    ]
    # The axis goes as far as any interval, but for intervals out of all proportion.
    far = 100 * np.array([max(abs(line.always_lo), abs(line.always_hi)) for line in rows])
    reach = 1.0
    if len(far):
        whole = np.array([line.whole for line in rows])
        reach = float(max(far[whole | (far <= FURTHEST * np.median(far))].max(), 0.1))
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 0.75 + 0.3 * max(len(rows), 1)), layout="constrained")
        axes = figure.add_subplot(xlabel="change against control, %")
        axes.axvline(0, color=INK, linewidth=1)
        axes.grid(axis="y", visible=False)
        for y, line in enumerate(rows):
            line.draw(axes, y, reach)
        axes.set_yticks(range(len(rows)), [visible(line.label, LABEL) for line in rows])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(-0.7, len(rows) - 0.3)
        bounds = [100 * end for line in rows for end in (line.always_lo, line.always_hi)]
        ends = np.clip(bounds, -reach, reach)
        low, high = ends.min(initial=0.0), ends.max(initial=0.0)
        room = 0.06 * (high - low) or 1.0
        axes.set_xlim(low - room, high + room)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda value, _: f"{value:+g}".replace("-", "\u2212") if value else "0")
        )
    return figure


def over_days(days: Sequence[date], lines: Sequence[PlottedLift]) -> Figure:
    """One metric's lift in percent up to each day: line, inner band fixed, outer always-valid."""
    values = {
        name: 100 * np.array([getattr(line, name) for line in lines], float) for name in BOUNDS
    }
    low, high = values["always_lo"], values["always_hi"]
    color = lines[-1].color
    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 2.7), layout="constrained")
        axes = figure.add_subplot(ylabel="change, %")
        x = np.array(days, "datetime64[D]")
        axes.fill_between(x, low, high, color=color, alpha=0.14, linewidth=0)
        axes.fill_between(x, values["lo"], values["hi"], color=color, alpha=0.25, linewidth=0)
        axes.plot(x, values["lift"], color=color, marker="o", markersize=4, linewidth=1.8)
        axes.axhline(0, color=INK, linewidth=1)
        # The first days' bands are so wide that nothing else would be seen: the later half of the
        # days sets the scale.
        late = slice(len(low) // 2, None)
        ends = np.concatenate([low[late], high[late], [0.0]])
        ends = ends[np.isfinite(ends)]
        room = 0.35 * (ends.max() - ends.min()) or 1.0
        axes.set_ylim(ends.min() - room, ends.max() + room)
        locator = DayLocator(interval=max(1, len(days) // 7))
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))
        axes.margins(x=0.03)
        if len(days) == 1:
            axes.set_xlim(x[0] - 1, x[0] + 1)
    return figure
