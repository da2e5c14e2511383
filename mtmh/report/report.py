"""The page a run leaves: report.html, self-contained, without scripts. Every
figure on it is one of metrics.json.
"""

import json
import shlex
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from markupsafe import Markup

from mtmh.data.files import replacing
from mtmh.display import finalize
from mtmh.evaluation.gate import BASELINES
from mtmh.ids import Ids
from mtmh.report import examples, plots

HEADS = ("engagement_head", "relevance_head")
# Column of the table: metric, its heading, whether more is better (only then is a best one marked).
COLUMNS = (
    ("recall_at_5", "recall @5", True),
    ("recall_at_20", "recall @20", True),
    ("recall_at_100", "recall @100", True),
    ("recall_at_500", "recall @500", True),
    ("l1_relevance", "L1 relevance", True),
    ("l2_relevance", "L2 relevance", True),
    ("coverage", "coverage", True),
    ("intra_list_diversity", "diversity", True),
    ("cold_share", "cold items", False),
    ("cold_recall_at_500", "recall @500 of cold items", True),
    ("fresh_share", "fresh items", False),
    ("fresh_recall_at_500", "recall @500 of fresh items", True),
)
NAMES = {
    "popularity": "Popularity",
    "itemknn": "ItemKNN",
    "content": "Content alone",
    "engagement_head": "Engagement head",
    "relevance_head": "Relevance head",
}


def write(run: Path, search: examples.Search | None = None) -> None:
    """Write report.html, alpha.svg and alpha.png into the run directory `run`,
    from what lies there.

    `search` finds the example triggers' candidates; by default the run's own retriever does.
    """
    metrics = json.loads((run / "metrics.json").read_text())
    config = yaml.safe_load((run / "config.yaml").read_text())
    alpha = config["retrieval"]["alpha"]
    models = metrics["models"]
    # Everything on the page is read from the run: it can be rendered again at any time.
    page = _environment().get_template("report.html.j2")
    html = page.render(
        # A dot marks a directory that is still being put together.
        run_id=run.name.removeprefix("."),
        alpha=alpha,
        single=plots.single_head(models),
        data=metrics["data"],
        facts=_facts(metrics["data"]),
        rejected=_rejected(run / "rejected.parquet"),
        gate=metrics["gate"],
        failed=[rule for rule in metrics["gate"]["rules"] if not rule["passed"]],
        tiles=_tiles(metrics, alpha),
        drawn=_drawings(run, models, alpha),
        tradeoff_words=plots.tradeoff_metric(models)[1].removesuffix(", %"),
        columns=COLUMNS,
        rows=_rows(models, alpha),
        examples=_examples(run, search, models, alpha, metrics["seed"]),
        drawn_triggers=examples.DRAWN,
        list_length=examples.LIST_LENGTH,
        steps=_steps(metrics),
        definitions=metrics["definitions"],
        code_version=metrics["code_version"],
        seed=metrics["seed"],
    )
    plots.save(plots.tradeoff(models, alpha), run, "alpha")
    with replacing(run / "report.html") as draft:
        draft.write_text(html, encoding="utf-8")


def percent(value: float | None, digits: int = 2) -> str:
    """A share as the page shows it; a dash where it was not measured."""
    return "—" if value is None else f"{100 * value:.{digits}f}\u00a0%"


def points(value: float) -> str:
    """A difference of two shares as the page shows it."""
    return f"{100 * value:+.2f}"


def name_of(model: str) -> str:
    """A model's name as the page shows it."""
    alpha = plots.alpha_of(model)
    return NAMES.get(model, model) if alpha is None else f"Merged, alpha {alpha}"


def _environment() -> jinja2.Environment:
    """Everything is escaped, whatever the file is called: titles and topics come from the data."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=finalize,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(percent=percent, points=points, quoted=shlex.quote)
    environment.globals["css"] = Markup((Path(__file__).parent / "report.css").read_text())
    return environment


def _facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    split = datetime.fromisoformat(data["split_time"])
    counts = (
        ("rows", "engagements"),
        ("users", "users"),
        ("items", "items"),
        ("test_users", "test users"),
        ("pairs", "training pairs"),
        ("rejected_rows", "rows rejected"),
        ("not_engagement_rows", "rows that are no engagement"),
    )
    facts = [(words, f"{data[key]:,}") for key, words in counts if key in data]
    period = "validation inside T1" if data.get("validation") else "T2"
    return [*facts, (f"split: T1 before, {period} from", f"{split:%Y-%m-%d %H:%M} UTC")]


def _rejected(path: Path) -> list[tuple[str, int]]:
    """Reasons of rejected rows and how many, most frequent first."""
    if not path.is_file():
        return []
    table = pq.read_table(path, columns=["table", "reason"])
    # The table counts as well: an item without an id and an interaction without one differ.
    counts = table.group_by(["table", "reason"]).aggregate([([], "count_all")]).to_pylist()
    counts.sort(key=lambda row: -row["count_all"])
    return [(f"{row['table']}: {row['reason']}", row["count_all"]) for row in counts]


def _tiles(metrics: Mapping[str, Any], alpha: int) -> list[dict[str, str]]:
    models = metrics["models"]
    merged, engagement = models[f"merged_alpha_{alpha}"], models.get("engagement_head")
    measured = [
        name for name in BASELINES if name in models and models[name]["recall_at_500"] is not None
    ]
    # Recall beside what it must beat, relevance beside the head that trains on engagement alone.
    best = max(measured, key=lambda name: models[name]["recall_at_500"])
    floor = models[best]["recall_at_500"]
    times = "the best baseline finds none"
    if floor:
        times = f"{merged['recall_at_500'] / floor:.2f} times the best baseline"
    seconds, memory = metrics["seconds"], metrics["peak_memory_mb"]
    total = sum(seconds.values())
    took = f"{total:.0f} s" if total < 120 else f"{total / 60:.1f} min"
    relevance = "no item of this data has topics"
    if merged["l2_relevance"] is not None:
        relevance = "the only head, trained on both losses"
    if merged["l2_relevance"] is not None and engagement is not None:
        relevance = f"engagement head alone: {percent(engagement['l2_relevance'], 1)}"
    return [
        {
            "name": "recall@500",
            "value": percent(merged["recall_at_500"], 1),
            "note": f"{times} ({NAMES[best]}, {percent(floor, 1)})",
        },
        {"name": "L2 relevance", "value": percent(merged["l2_relevance"], 1), "note": relevance},
        {
            "name": "coverage",
            "value": percent(merged["coverage"], 1),
            "note": f"of {metrics['data']['items']:,} items reach someone's list",
        },
        {
            "name": "all steps",
            "value": took,
            "note": f"peak memory {max(memory.values(), default=0):,} MiB",
        },
    ]


def _drawings(run: Path, models: plots.Metrics, alpha: int) -> dict[str, Markup]:
    words = plots.tradeoff_metric(models)[1].removesuffix(", %")
    close = (
        "The head close up"
        if plots.single_head(models)
        else "Heads and merge, one point for each alpha"
    )
    drawings = {
        "all": (plots.tradeoff(models, alpha, ["all"]), f"All models: recall@500 against {words}"),
        "zoom": (
            plots.tradeoff(models, alpha, ["zoom"]),
            f"{close}: recall@500 against {words}",
        ),
    }
    # The training curves of the losses that this objective has.
    columns = pq.read_table(run / "curves.parquet")
    arrays = {name: columns[name].to_numpy() for name in columns.column_names}
    for kind, figure in plots.curves(arrays).items():
        drawings[kind] = (figure, f"Training curve of the {kind} loss over the pairs seen")
    # The pictures hold words of the code alone, nothing of the data: safe without escaping.
    return {
        name: Markup(plots.svg(figure, name, words)) for name, (figure, words) in drawings.items()
    }


def _rows(models: Mapping[str, Mapping[str, float | None]], alpha: int) -> list[dict[str, Any]]:
    """One row a model: its name, whether it is served, and a cell a column:
    value, text, whether the best.
    """
    # The best model of each column is marked, where more is better.
    best = {}
    for metric, _, more_is_better in COLUMNS:
        values = [figures.get(metric) for figures in models.values()]
        measured_values = [value for value in values if value is not None]
        if more_is_better and measured_values:
            best[metric] = max(measured_values)
    rows = []
    for model, measured in models.items():
        # Shares in percent, the diversity as the distance that it is.
        cells = []
        for metric, _, _ in COLUMNS:
            value = measured.get(metric)
            text = percent(value).removesuffix("\u00a0%")
            if metric == "intra_list_diversity" and value is not None:
                text = f"{value:.3f}"
            top = value is not None and value == best.get(metric)
            cells.append({"metric": metric, "value": value, "text": text, "best": top})
        kind = (
            "head" if model in HEADS else "baseline" if plots.alpha_of(model) is None else "merged"
        )
        served = plots.alpha_of(model) == alpha
        row = {"model": model, "name": name_of(model), "kind": kind, "served": served}
        rows.append(row | {"cells": cells})
    return rows


def _examples(
    run: Path, search: examples.Search | None, models: plots.Metrics, alpha: int, seed: int
) -> list[examples.Example]:
    columns = ["item_id", "title", "l1_topics", "l2_topics"]
    items = pq.read_table(run / "retriever" / "items.parquet", columns=columns)
    if search is None:
        from mtmh.retrieval.retriever import Retriever

        search = Retriever.load(run / "retriever").similar_items
    # Triggers that real users of the sample have, by how many of them.
    popularity = _users_per_trigger(run, items, f"merged_alpha_{alpha}")
    heads = [head.removesuffix("_head") for head in HEADS if head in models]
    triggers = examples.choose(popularity, search, seed, heads=heads)
    return examples.collect(triggers, items, popularity, search, alpha, heads)


def _users_per_trigger(run: Path, items: pa.Table, model: str) -> np.ndarray:
    """In how many sampled users' lists an item is the trigger of something, int64 [items]."""
    # Of one model alone, as every model has lists of the same users.
    filters = [("model", "=", model)]
    columns = ["user_id", "trigger_id"]
    rows = pq.read_table(run / "candidates.parquet", columns=columns, filters=filters)
    pairs = rows.group_by(["user_id", "trigger_id"]).aggregate([])
    rows = Ids(items["item_id"]).rows(pairs["trigger_id"])
    return np.bincount(rows[rows >= 0], minlength=items.num_rows)


def _steps(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    longest = max(metrics["seconds"].values(), default=0.0) or 1.0
    return [
        {
            "name": step,
            "seconds": seconds,
            "memory": metrics["peak_memory_mb"][step],
            "share": round(100 * seconds / longest, 1),
        }
        for step, seconds in metrics["seconds"].items()
    ]
