"""The page a run leaves: report.html, self-contained, without scripts. Every
figure on it is one of metrics.json.
"""

import json
import shlex
from dataclasses import dataclass
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
from mtmh.retrieval.merge import quotas_at

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
}
# What a head's list is about, under its name.
HEAD_NOTES = {
    "engagement": "What people engaged with besides.",
    "relevance": "What is about the same thing as well.",
}


def write(run: Path, search: examples.Search | None = None) -> None:
    """Write report.html, alpha.svg and alpha.png into the run directory `run`,
    from what lies there.

    `search` finds the example triggers' candidates; by default the run's own retriever does.
    """
    page = RunPage.of(run)
    # Everything is escaped, whatever the file is called: titles and topics come from the data.
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
    metrics, models = page.metrics, page.models
    html = environment.get_template("report.html.j2").render(
        # A dot marks a directory that is still being put together.
        run_id=run.name.removeprefix("."),
        alpha=page.alpha,
        quotas=page.quotas,
        notes=HEAD_NOTES,
        single=plots.single_head(models),
        data=metrics["data"],
        facts=page.facts(),
        rejected=page.rejected(),
        gate=metrics["gate"],
        failed=[rule for rule in metrics["gate"]["rules"] if not rule["passed"]],
        tiles=page.tiles(),
        drawn=page.drawings(),
        tradeoff_words=plots.tradeoff_metric(models)[1].removesuffix(", %"),
        columns=COLUMNS,
        rows=page.rows(),
        examples=page.example_lists(search),
        drawn_triggers=examples.DRAWN,
        list_length=examples.LIST_LENGTH,
        steps=page.steps(),
        definitions=metrics["definitions"],
        code_version=metrics["code_version"],
        seed=metrics["seed"],
    )
    plots.save(plots.tradeoff(models, page.alpha), run, "alpha")
    with replacing(run / "report.html") as draft:
        draft.write_text(html, encoding="utf-8")


@dataclass(frozen=True)
class RunPage:
    """What the page shows of a run, in the words of report.html.j2.

    Everything is read from the run's directory: the page can be rendered again at any time.
    """

    run: Path
    metrics: dict[str, Any]  # of metrics.json
    alpha: int  # that serves
    quotas: dict[str, float]  # percent of the served merge, by the head's name

    @classmethod
    def of(cls, run: Path) -> "RunPage":
        """That of the run directory `run`."""
        metrics = json.loads((run / "metrics.json").read_text())
        config = yaml.safe_load((run / "config.yaml").read_text())
        alpha, channels = config["retrieval"]["alpha"], config["retrieval"].get("channels")
        heads = [name.removesuffix("_head") for name in metrics["models"] if name.endswith("_head")]
        # A run from before channels were named has the head's name alone.
        named = {c.get("name", c["head"]): c["quota"] for c in channels or []}
        quotas = quotas_at(alpha, heads, [named[head] for head in heads] if named else None)
        return cls(run, metrics, alpha, dict(zip(heads, quotas, strict=True)))

    @property
    def models(self) -> dict[str, dict[str, Any]]:
        """Metrics of each model."""
        models: dict[str, dict[str, Any]] = self.metrics["models"]
        return models

    def facts(self) -> list[tuple[str, str]]:
        """The data in words and numbers."""
        data = self.metrics["data"]
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
        split = datetime.fromisoformat(data["split_time"])
        return [*facts, (f"split: T1 before, {period} from", f"{split:%Y-%m-%d %H:%M} UTC")]

    def rejected(self) -> list[tuple[str, int]]:
        """Reasons of rejected rows and how many, most frequent first."""
        path = self.run / "rejected.parquet"
        if not path.is_file():
            return []
        table = pq.read_table(path, columns=["table", "reason"])
        # The table counts as well: an item without an id and an interaction without one differ.
        counts = table.group_by(["table", "reason"]).aggregate([([], "count_all")]).to_pylist()
        counts.sort(key=lambda row: -row["count_all"])
        return [(f"{row['table']}: {row['reason']}", row["count_all"]) for row in counts]

    def tiles(self) -> list[dict[str, str]]:
        """The key figures, each beside what gives it a meaning."""
        models = self.models
        merged, engagement = models[f"merged_alpha_{self.alpha}"], models.get("engagement_head")
        # Recall beside what it must beat.
        recalls = {name: models[name]["recall_at_500"] for name in BASELINES if name in models}
        measured = [name for name, recall in recalls.items() if recall is not None]
        best = max(measured, key=lambda name: recalls[name])
        floor = recalls[best]
        times = "the best baseline finds none"
        if floor:
            times = f"{merged['recall_at_500'] / floor:.2f} times the best baseline"
        # Relevance beside the head that trains on engagement alone.
        relevance = "no item of this data has topics"
        if merged["l2_relevance"] is not None:
            relevance = "the only head, trained on both losses"
        if merged["l2_relevance"] is not None and engagement is not None:
            relevance = f"engagement head alone: {percent(engagement['l2_relevance'], 1)}"
        total = sum(self.metrics["seconds"].values())
        memory = max(self.metrics["peak_memory_mb"].values(), default=0)
        tiles = (
            (
                "recall@500",
                percent(merged["recall_at_500"], 1),
                f"{times} ({NAMES[best]}, {percent(floor, 1)})",
            ),
            ("L2 relevance", percent(merged["l2_relevance"], 1), relevance),
            (
                "coverage",
                percent(merged["coverage"], 1),
                f"of {self.metrics['data']['items']:,} items reach someone's list",
            ),
            (
                "all steps",
                f"{total:.0f} s" if total < 120 else f"{total / 60:.1f} min",
                f"peak memory {memory:,} MiB",
            ),
        )
        return [{"name": name, "value": value, "note": note} for name, value, note in tiles]

    def drawings(self) -> dict[str, Markup]:
        """The pictures, as elements of the page."""
        words = plots.tradeoff_metric(self.models)[1].removesuffix(", %")
        close = (
            "The head close up"
            if plots.single_head(self.models)
            else "Heads and merge, one point for each alpha"
        )
        panels = {"all": "All models", "zoom": close}
        drawings = {
            panel: (
                plots.tradeoff(self.models, self.alpha, [panel]),
                f"{title}: recall@500 against {words}",
            )
            for panel, title in panels.items()
        }
        # The training curves of the losses that this objective has.
        columns = pq.read_table(self.run / "curves.parquet")
        arrays = {name: columns[name].to_numpy() for name in columns.column_names}
        for kind, figure in plots.curves(arrays).items():
            drawings[kind] = (figure, f"Training curve of the {kind} loss over the pairs seen")
        # The pictures hold words of the code alone, nothing of the data: safe without escaping.
        return {
            name: Markup(plots.svg(figure, name, words))
            for name, (figure, words) in drawings.items()
        }

    def rows(self) -> list[dict[str, Any]]:
        """One row a model: its name, whether it is served, and a cell a column:
        value, text, whether the best.
        """
        # The best model of each column is marked, where more is better.
        best = {}
        for metric, _, more_is_better in COLUMNS:
            values = [figures.get(metric) for figures in self.models.values()]
            measured_values = [value for value in values if value is not None]
            if more_is_better and measured_values:
                best[metric] = max(measured_values)
        rows = []
        for model, measured in self.models.items():
            # Shares in percent, the diversity as the distance that it is.
            cells = []
            for metric, _, _ in COLUMNS:
                value = measured.get(metric)
                text = percent(value).removesuffix("\u00a0%")
                if metric == "intra_list_diversity" and value is not None:
                    text = f"{value:.3f}"
                top = value is not None and value == best.get(metric)
                cells.append({"metric": metric, "value": value, "text": text, "best": top})
            alpha = plots.alpha_of(model)
            kind = "head" if model.endswith("_head") else "baseline" if alpha is None else "merged"
            row = {"model": model, "name": name_of(model), "kind": kind}
            rows.append(row | {"served": alpha == self.alpha, "cells": cells})
        return rows

    def example_lists(self, search: examples.Search | None) -> list[examples.Example]:
        """Triggers on which the heads disagree, with their lists; see `write` for `search`."""
        columns = ["item_id", "title", "l1_topics", "l2_topics"]
        items = pq.read_table(self.run / "retriever" / "items.parquet", columns=columns)
        if search is None:
            from mtmh.retrieval.retriever import Retriever

            search = Retriever.load(self.run / "retriever").similar_items
        # Triggers that real users of the sample have, by how many of them.
        popularity = self.users_per_trigger(items)
        heads = list(self.quotas)
        triggers = examples.choose(popularity, search, self.metrics["seed"], heads=heads)
        return examples.collect(triggers, items, popularity, search, self.quotas)

    def users_per_trigger(self, items: pa.Table) -> np.ndarray:
        """In how many sampled users' lists an item is the trigger of something, int64 [items]."""
        # Of one model alone, as every model has lists of the same users.
        filters = [("model", "=", f"merged_alpha_{self.alpha}")]
        columns = ["user_id", "trigger_id"]
        rows = pq.read_table(self.run / "candidates.parquet", columns=columns, filters=filters)
        pairs = rows.group_by(["user_id", "trigger_id"]).aggregate([])
        rows = Ids(items["item_id"]).rows(pairs["trigger_id"])
        return np.bincount(rows[rows >= 0], minlength=items.num_rows)

    def steps(self) -> list[dict[str, Any]]:
        """Time and memory of each step, and its time as a share of the longest one's."""
        seconds, memory = self.metrics["seconds"], self.metrics["peak_memory_mb"]
        longest = max(seconds.values(), default=0.0) or 1.0
        return [
            {
                "name": step,
                "seconds": took,
                "memory": memory[step],
                "share": round(100 * took / longest, 1),
            }
            for step, took in seconds.items()
        ]


def percent(value: float | None, digits: int = 2) -> str:
    """A share as the page shows it; a dash where it was not measured."""
    return "—" if value is None else f"{100 * value:.{digits}f}\u00a0%"


def points(value: float) -> str:
    """A difference of two shares as the page shows it."""
    return f"{100 * value:+.2f}"


def name_of(model: str) -> str:
    """A model's name as the page shows it."""
    alpha = plots.alpha_of(model)
    if alpha is not None:
        return f"Merged, alpha {alpha}"
    head = model.removesuffix("_head")
    return NAMES.get(model, model if head == model else f"{head.capitalize()} head")
