"""The leaderboard on the screen, as a picture, and as the tables of docs/results.md, all made from
leaderboard_<data>.json."""

import json
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from benchmarks import result
from benchmarks.leaderboard.systems import SYSTEMS
from benchmarks.style import COLORS, INK, QUIET, save, styled
from mtmh.version_hash import ROOT

PAGE = ROOT / "docs" / "results.md"
LABELS = {
    "R@20": "recall_at_20",
    "R@500": "recall_at_500",
    "warm": "warm_recall_at_500",
    "cold": "cold_recall_at_500",
    "L1": "l1_relevance",
    "L2": "l2_relevance",
    "coverage": "coverage",
}
WITH_RANGE = ("R@500", "L2")
# Of the third table: side and figure of a segment, and the segments that have a column.
BY_SEGMENT = (
    ("R {}", "candidates", "recall", ("popular", "tail", "fresh")),
    ("{}", "candidates", "share", ("popular", "tail", "cold", "fresh")),
    ("L2 {}", "triggers", "l2_relevance", ("popular", "tail")),
)
# Color and marker of the project's own, of the networks, and of what learns no vectors of items.
PROJECT, NETWORK, CLASSICAL = (
    (COLORS["merged"], "^"),
    (COLORS["engagement"], "o"),
    (COLORS["relevance"], "s"),
)
NETWORKS = ("itemcf", "neucf", "content_features", "mol", "hllm", "sasrec", "hstu")
Board = Mapping[str, Any]


def show(data: str) -> None:
    """Draw the board of a data set, and write its tables where docs/results.md has markers for
    them."""
    file = result.FOLDER / f"leaderboard_{data}.json"
    if not file.exists():
        return  # every model was left out, and each has said why
    board = json.loads(file.read_text())
    save(draw(board), file.with_suffix(".png"))
    text = PAGE.read_text() if PAGE.exists() else ""
    if begin(data) in text:
        PAGE.write_text(with_tables(text, data, board))
        print(f"wrote {PAGE}", flush=True)


def begin(data: str) -> str:
    """The marker in front of a data set's tables."""
    return f"<!-- leaderboard {data}: made by mtmh study -->"


def with_tables(text: str, data: str, board: Board) -> str:
    """The page with the board's tables between its two markers. Raises ValueError where the second
    one is not there."""
    before, marker, behind = text.partition(begin(data))
    _, end, rest = behind.partition("<!-- end -->")
    if not end:
        raise ValueError(f"no <!-- end --> behind {marker} in {PAGE}")
    return f"{before}{marker}\n\n{tables(board)}\n{end}{rest}"


def tables(board: Board) -> str:
    """Three Markdown tables: the figures in percent, the differences from mtmh with size and cost,
    and the figures by segments of the catalog."""
    lines = [row("model", *LABELS), row(*["---"] * (len(LABELS) + 1))]
    for name, figures in board["models"].items():
        cells = [percent(figures.get(key), label in WITH_RANGE) for label, key in LABELS.items()]
        lines.append(row(name, *cells))
    lines += ["", row("less mtmh", "R@500", "L2", "parameters", "seconds", "ms a list")]
    lines.append(row(*["---"] * 6))
    # What two heads cost or gain beside each model, and what each costs to train.
    for name, figures in board["models"].items():
        against = figures.get("against_mtmh", {})
        cells = [difference(against.get(LABELS[label])) for label in WITH_RANGE]
        cost = f"{figures['parameters']:,}", f"{figures['train_seconds']:.0f}"
        milliseconds = figures.get("milliseconds_a_request")  # rows of before it was measured
        lines.append(
            row(name, *cells, *cost, "" if milliseconds is None else f"{milliseconds:.1f}")
        )
    return "\n".join([*lines, *segment_lines(board)]) + "\n"


def segment_lines(board: Board) -> list[str]:
    """The table by segments, in percent; none where no row has them."""
    rows = {name: row["segments"] for name, row in board["models"].items() if "segments" in row}
    if not rows:
        return []
    # A column a figure and segment, in the order of BY_SEGMENT.
    columns = [
        (label.format(segment), segment, side, figure)
        for label, side, figure, names in BY_SEGMENT
        for segment in names
    ]
    lines = ["", row("by segment", *(column[0] for column in columns))]
    lines.append(row(*["---"] * (len(columns) + 1)))
    for name, of_model in rows.items():
        values = [of_model[segment][side].get(figure) for _, segment, side, figure in columns]
        cells = ["" if value is None else f"{100 * value:.1f}" for value in values]
        lines.append(row(name, *cells))
    return lines


def row(*cells: str) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def percent(figure: Mapping[str, float] | None, with_range: bool) -> str:
    """Mean, and [least, most] where the seeds differ; empty where the data gave no figure."""
    if figure is None:
        return ""
    mean, least, most = (f"{100 * figure[name]:.1f}" for name in ("mean", "least", "most"))
    return f"{mean} [{least}, {most}]" if with_range and least != most else mean


def difference(interval: Mapping[str, float] | None) -> str:
    """Points of percent with their interval."""
    if interval is None:
        return ""
    middle, low, high = (f"{100 * interval[name]:+.1f}" for name in ("difference", "low", "high"))
    return f"{middle} [{low}, {high}]"


def line(name: str, figures: Mapping[str, Any]) -> str:
    """A row for the screen, in percent."""
    cells = (f"{label} {percent(figures.get(key), False):>5}" for label, key in LABELS.items())
    return f"{name:20} {'  '.join(cells)}  by {figures['settings']}"


def extent(figure: Mapping[str, float]) -> tuple[float, ...]:
    """Mean, least and most in percent."""
    return tuple(100 * figure[part] for part in ("mean", "least", "most"))


@styled
def draw(board: Board) -> Figure:
    """Every model a point: recall@500 against L2 relevance, a bar from least to most."""
    figure = Figure(figsize=(9.5, 6.4), layout="constrained")
    axes = figure.subplots()
    for number, (name, figures) in enumerate(board["models"].items()):
        if any(LABELS[label] not in figures for label in WITH_RANGE):
            continue
        (x, left, right), (y, below, above) = (extent(figures[LABELS[key]]) for key in WITH_RANGE)
        color, marker = PROJECT if name in SYSTEMS else NETWORK if name in NETWORKS else CLASSICAL
        across, along = [[x - left], [right - x]], [[y - below], [above - y]]
        axes.errorbar([x], [y], along, across, color=color, marker=marker, markersize=6)
        # Neighbours in the table are often neighbours here: their labels go up and down in turns.
        offset = (6, 6) if number % 2 else (6, -12)
        axes.annotate(
            name.replace("_", " "),
            (x, y),
            offset,
            textcoords="offset points",
            color=color,
            fontsize=8.5,
        )
    for words, (color, marker) in (
        ("the project's own", PROJECT),
        ("networks", NETWORK),
        ("classical", CLASSICAL),
    ):
        axes.plot([], [], color=color, marker=marker, linestyle="", label=words)
    axes.legend(frameon=False, labelcolor=INK)
    axes.margins(x=0.12)
    axes.set_xlabel("recall@500, %")
    axes.set_ylabel("L2 relevance, %")
    axes.set_title(f"{board['data']}: {board['protocol'].partition(';')[0]}", size=11, color=QUIET)
    return figure
