"""What the papers print of Amazon Beauty, and the tables of docs/results.md, made from
published_<data>.json."""

import json
from collections.abc import Mapping
from typing import Any

from benchmarks import result
from mtmh.version_hash import ROOT

PAGE = ROOT / "docs" / "results.md"
LABELS = {
    "R@5": "recall_at_5",
    "R@10": "recall_at_10",
    "R@20": "recall_at_20",
    "N@5": "ndcg_at_5",
    "N@10": "ndcg_at_10",
}
# Of Amazon Beauty 2014, 5-core, leave-one-out, all items ranked, as printed there: R@5, R@10, N@5,
# N@10 in percent, empty where none is.
PRINTED = {
    "TIGER (arXiv 2305.05065, table 1)": {
        "SASRec": ("3.87", "6.05", "2.49", "3.18"),
        "BERT4Rec": ("2.03", "3.47", "1.24", "1.70"),
        "S3-Rec": ("3.87", "6.47", "2.44", "3.27"),
        "TIGER": ("4.54", "6.48", "3.21", "3.84"),
    },
    "OpenOneRec (arXiv 2512.24762)": {
        "SASRec": ("", "6.39", "", ""),
        "TIGER": ("", "6.28", "", ""),
        "LC-Rec": ("", "7.64", "", ""),
        "OneRec": ("", "9.24", "", ""),
    },
    "genrec (phonism.github.io/genrec, HSTU)": {
        "SASRec": ("4.69", "6.88", "3.05", "3.75"),
        "HSTU": ("4.86", "7.08", "3.40", "4.12"),
    },
    "RecBole (its issue 1290)": {"SASRec, softmax": ("", "8.30", "", "4.16")},
    "RecBole (LETTER's issue 20)": {"SASRec, softmax": ("5.43", "8.21", "3.15", "4.05")},
}
Board = Mapping[str, Any]


def show(data: str) -> None:
    """Write the tables of a data set where docs/results.md has markers for them."""
    board = json.loads((result.FOLDER / f"published_{data}.json").read_text())
    text = PAGE.read_text() if PAGE.exists() else ""
    if begin(data) in text:
        PAGE.write_text(with_tables(text, data, board))
        print(f"wrote {PAGE}", flush=True)


def begin(data: str) -> str:
    """The marker in front of a data set's tables."""
    return f"<!-- published {data}: made by mtmh bench published -->"


def with_tables(text: str, data: str, board: Board) -> str:
    """The page with the board's tables between its two markers. Raises ValueError where the second
    one is not there."""
    before, marker, behind = text.partition(begin(data))
    _, end, rest = behind.partition("<!-- end -->")
    if not end:
        raise ValueError(f"no <!-- end --> behind {marker} in {PAGE}")
    return f"{before}{marker}\n\n{tables(board)}\n{end}{rest}"


def tables(board: Board) -> str:
    """Two Markdown tables, percent: what is measured here, and what is printed."""
    lines = [line("here", "order in a day", *LABELS, "N@10, seen too", "seeds")]
    lines.append(line(*["---"] * (len(LABELS) + 4)))
    for order, models in board["orders"].items():
        for name, row in models.items():
            cells = [percent(row["unseen"][figure]) for figure in LABELS.values()]
            cells += [percent(row["all"]["ndcg_at_10"]), str(len(row["runs"]))]
            lines.append(line(name, order, *cells))
    # The printed ones stand apart: not all of them have every figure.
    lines += ["", line("printed", "R@5", "R@10", "N@5", "N@10", "by")]
    lines.append(line(*["---"] * 6))
    for source, models in PRINTED.items():
        lines += [line(name, *cells, source) for name, cells in models.items()]
    return "\n".join(lines) + "\n"


def line(*cells: str) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def percent(figure: Mapping[str, float]) -> str:
    """The mean over the seeds."""
    return f"{100 * figure['mean']:.2f}"
