"""The report's pictures, drawn by matplotlib without a display."""

import io
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

Metrics = Mapping[str, Mapping[str, float | None]]

INK, QUIET, GRID = "#1b2130", "#5b6472", "#e3e6eb"
COLORS = {"engagement": "#0b5cad", "relevance": "#b4500b", "merged": "#5a2ca0", "baseline": QUIET}
_NAMES = {
    "popularity": "popularity",
    "itemknn": "ItemKNN",
    "content": "content alone",
    "engagement_head": "engagement head",
    "relevance_head": "relevance head",
}
# Where a label may stand around its point: offset in points of the page, and
# which side of the text that is.
_PLACES = [(9, 0, "left"), (-9, 0, "right"), (0, 13, "center"), (0, -13, "center"),
           (8, 11, "left"), (-8, 11, "right"), (8, -11, "left"), (-8, -11, "right"),
           (0, 26, "center"), (0, -26, "center")]  # fmt: skip
STYLE: dict[Any, Any] = {
    "font.size": 10.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "text.parse_math": False,  # a dollar sign in a title or topic is a dollar sign
}


@dataclass(frozen=True)
class _Point:
    """A model in the picture."""

    name: str
    xy: tuple[float, float]  # in percent
    alpha: int | None  # of the merge; None for heads and baselines
    is_served: bool

    @property
    def is_head(self) -> bool:
        return self.name.endswith("_head")

    @property
    def color(self) -> str:
        if self.is_head:
            return COLORS.get(self.name.removesuffix("_head"), INK)
        return COLORS["baseline" if self.alpha is None else "merged"]

    def words(self, full: bool) -> str:
        """Its label; `full` says also which alpha a head stands for, and which one serves."""
        if self.alpha is None:
            alone = {"engagement_head": " (alpha 100)", "relevance_head": " (alpha 0)"}
            return _NAMES.get(self.name, self.name) + (alone.get(self.name, "") if full else "")
        if not self.is_served:
            return f"alpha {self.alpha}"
        return f"merged, alpha {self.alpha}" + (" (served)" if full else "")


def alpha_of(model: str) -> int | None:
    """The quota in percent of a model named merged_alpha_N, None for the others."""
    match = re.fullmatch(r"merged_alpha_(\d+)", model)
    return int(match[1]) if match else None


def tradeoff_metric(models: Metrics) -> tuple[str, str]:
    """What recall is drawn against: L2 relevance, or coverage where the data has
    no topics; (metric, its words).
    """
    if all(figures.get("l2_relevance") is None for figures in models.values()):
        return "coverage", "coverage, %"
    return "l2_relevance", "L2 relevance, %"


def single_head(models: Metrics) -> str | None:
    """The head that serves alone, "engagement" or "relevance", in a model that
    has one; None where it has two.
    """
    heads = [name.removesuffix("_head") for name in models if name.endswith("_head")]
    return heads[0] if len(heads) == 1 else None


def tradeoff(
    models: Metrics,
    serving_alpha: int,
    panels: Iterable[str] = ("all", "zoom"),
) -> Figure:
    """Recall@500 against relevance as alpha goes 0..100, with heads and baselines
    as points (paper, Figure 6).

    `panels`: "all" shows every model, "zoom" the heads and the merge alone, every alpha labelled. A
    single head is one point: nothing is merged.
    """
    metric, axis = tradeoff_metric(models)
    single = single_head(models)
    # A model without one of the two figures has no point, nor has the merge of a single head.
    points = []
    for name, figures in models.items():
        x, y, alpha = figures.get(metric), figures.get("recall_at_500"), alpha_of(name)
        if x is not None and y is not None and not (single and alpha is not None):
            points.append(_Point(name, (100 * x, 100 * y), alpha, alpha == serving_alpha))
    chosen = list(panels)
    with rc_context(STYLE):
        figure = Figure(figsize=(4.8 * len(chosen), 3.9), layout="constrained")
        for number, panel in enumerate(chosen, start=1):
            axes = figure.add_subplot(1, len(chosen), number)
            axes.set_xlabel(axis)
            axes.set_ylabel("recall@500, %")
            if len(chosen) > 1:
                close_up = "The head, close up" if single else "The merge, close up"
                title = {"all": "All models", "zoom": close_up}[panel]
                axes.set_title(title, size=11, loc="left")
            named = _draw_points(axes, points, close_up=panel == "zoom")
            full = panel == "zoom" and not single
            _label(figure, axes, points, {point: point.words(full) for point in named})
        figure.set_layout_engine("none")  # the labels were placed for exactly this layout
    return figure


def curves(columns: Mapping[str, np.ndarray]) -> dict[str, Figure]:
    """Training curves over the pairs seen: every column named *_loss, the
    relevance losses in a figure of their own.

    `columns` are those of curves.parquet; "engagement" or "relevance" is left out where it has no
    finite loss.
    """
    losses = {n: v for n, v in columns.items() if n.endswith("_loss") and np.isfinite(v).any()}
    figures = {}
    for kind in ("engagement", "relevance"):
        is_relevance = kind == "relevance"
        panel = {n: v for n, v in losses.items() if ("relevance" in n) is is_relevance}
        if panel:
            with rc_context(STYLE):
                figures[kind] = Figure(figsize=(4.8, 3.1), layout="constrained")
                axes = figures[kind].add_subplot(xlabel="million pairs seen", ylabel="loss, nats")
                _draw_losses(axes, columns["pairs"] / 1e6, panel, COLORS[kind])
    return figures


def svg(figure: Figure, name: str, description: str) -> str:
    """The figure as an <svg> element for a page: scales with its container, says
    what it shows, names no address.

    `name` tells its ids from those of other figures on the page; `description` is the alternative
    text.
    """
    buffer = io.StringIO()
    with rc_context({**STYLE, "svg.hashsalt": name}), without_glyph_warnings():
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    # Only the element itself, without its metadata and fixed size; ids must differ on the page.
    drawn = buffer.getvalue()
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", drawn)
    head, rest = drawn.split(">", 1)
    head = re.sub(r' (width|height|xmlns|xmlns:xlink|version)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{description}">{rest}'.replace("xlink:href", "href")


@contextmanager
def without_glyph_warnings() -> Iterator[None]:
    """Letters that the measuring font lacks, such as Chinese ones, are no fault:
    a browser draws them by its own.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Glyph .* missing from font", category=UserWarning
        )
        warnings.filterwarnings(
            "ignore", message="Matplotlib currently does not support", category=UserWarning
        )
        yield


def save(figure: Figure, run: Path, name: str) -> None:
    """Write the figure as `name`.svg and `name`.png into the run directory."""
    with rc_context({**STYLE, "svg.hashsalt": name}), without_glyph_warnings():
        figure.savefig(run / f"{name}.svg", metadata={"Date": None})
        figure.savefig(run / f"{name}.png", dpi=160)


def _draw_points(axes: Axes, points: Sequence[_Point], close_up: bool) -> list[_Point]:
    """A panel without its labels: of all models, or of heads and merge; returns those to label."""
    # The merge is a line over alpha; heads and baselines are single points of other shapes.
    merged = sorted((point.alpha, point.xy) for point in points if point.alpha is not None)
    line = np.array([xy for _, xy in merged]).reshape(-1, 2)
    axes.plot(line[:, 0], line[:, 1], color=COLORS["merged"], linewidth=1.8, zorder=2)
    for point in points:
        marker: dict[str, Any] = {"color": point.color, "marker": "D", "s": 42}
        if point.is_head:
            marker |= {"marker": "s", "s": 90}
        if point.alpha is not None:
            marker |= {"marker": "o", "s": 120 if point.is_served else 40}
        axes.scatter(*point.xy, zorder=3, edgecolors="white", linewidths=0.8, **marker)
    # The whole picture names of the merge only the alpha that serves.
    if not close_up:
        axes.margins(0.16)
        return [point for point in points if point.alpha is None or point.is_served]
    # Room for labels, at least half a percent, so that close points do not look far apart.
    near = [point.xy for point in points if point.alpha is not None or point.is_head]
    (left, low), (right, high) = np.min(near, axis=0), np.max(near, axis=0)
    x, y = max(0.28 * (right - left), 0.5), max(0.3 * (high - low), 0.5)
    left, right, low, high = left - x, right + x, low - y, high + y
    axes.set(xlim=(left, right), ylim=(low, high))
    return [p for p in points if left <= p.xy[0] <= right and low <= p.xy[1] <= high]


def _label(
    figure: Figure, axes: Axes, points: Sequence[_Point], words: Mapping[_Point, str]
) -> None:
    """Put `words` beside their points, each where it covers the fewest other labels and points."""
    figure.draw_without_rendering()  # extents exist only after a drawing
    frame = axes.get_window_extent()
    spots = {point: axes.transData.transform(point.xy) for point in points}
    heads = {point.xy for point in points if point.is_head}
    taken: list[Any] = []  # boxes of the labels so far

    def cost(point: _Point, box: Any, rank: int) -> float:
        outside = box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1
        covered = sum(box.overlaps(other) for other in taken)
        others = [spots[other] for other in points if other.xy != point.xy]
        covered += sum(box.padded(5).contains(*spot) for spot in others)
        # A label beyond the frame is worst; the order of the places decides between equals alone.
        return 10.0 * covered + 20.0 * outside + 0.1 * rank

    for point in sorted(words, key=lambda point: (not point.is_served, point.alpha is not None)):
        if point.alpha in (0, 100) and not point.is_served and point.xy in heads:
            continue  # that head alone, whose own label says so
        # Every position is tried, and the cheapest stays.
        offers = []
        for rank, (dx, dy, side) in enumerate(_PLACES):
            text = axes.annotate(
                words[point],
                point.xy,
                (dx, dy),
                textcoords="offset points",
                ha=side,
                va="center",
                color=point.color,
                weight="bold" if point.is_served else "normal",
                size=10,
            )
            box = text.get_window_extent().padded(1)
            offers.append((cost(point, box, rank), rank, text, box))
        best = min(offers, key=lambda offer: offer[:2])
        for offer in offers:
            if offer is not best:
                offer[2].remove()
        taken.append(best[3])


def _draw_losses(
    axes: Axes,
    pairs: np.ndarray,
    panel: Mapping[str, np.ndarray],
    color: str,
) -> None:
    styles = ((color, "-"), (COLORS["merged"], "--"), (QUIET, ":"))
    for number, (name, values) in enumerate(panel.items()):
        line_color, dash = styles[number % len(styles)]
        # A moving average over the noise of single points, which stay visible behind it.
        width = max(1, len(values) // 25)
        if width > 1:
            axes.plot(pairs, values, color=line_color, alpha=0.25, linewidth=0.8)
        smooth = np.convolve(values, np.ones(width) / width, mode="valid")
        label = name.replace("_", " ")
        axes.plot(pairs[width - 1 :], smooth, color=line_color, linestyle=dash, label=label)
    axes.legend(frameon=False, fontsize=10)
