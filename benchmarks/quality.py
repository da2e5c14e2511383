"""Recall and relevance on public data: the whole pipeline, three seeds, topics kept out of model and content text.

Reads the folders named in MTMH_BENCH_DATA (default: ../shared/data/yelp2019 and ../shared/data/amazon-beauty) and
writes one result a folder, quality_<folder>.json, with mean, least and most of every figure. Each seed is run again
with the settings of WITHOUT, which the model does not depend on: training comes from the cache.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.result import spread, write
from mtmh.errors import UserError
from mtmh.evaluation.gate import BASELINES

SEEDS = (0, 1, 2)
DEFAULT = "../shared/data/yelp2019 ../shared/data/amazon-beauty"
SHOWN = (
    "recall_at_20",
    "recall_at_100",
    "recall_at_500",
    "l2_relevance",
    "coverage",
    "cold_share",
    "cold_recall_at_500",
    "fresh_share",
    "fresh_recall_at_500",
)
WITHOUT = {"cold items placed by content": ["retrieval.cold=model"]}


def main() -> None:
    """Run, compare, and say for each data set whether the paper's order holds at every seed."""
    for data in folders():
        with tempfile.TemporaryDirectory() as runs:
            found = [_run(data, seed, Path(runs), []) for seed in SEEDS]
            less = {part: [_run(data, seed, Path(runs), given) for seed in SEEDS] for part, given in WITHOUT.items()}
            _write(data, found, less)


def folders(default: str = DEFAULT) -> list[Path]:
    """The data sets named in MTMH_BENCH_DATA. Raises UserError where one is not there."""
    found = [Path(folder) for folder in os.environ.get("MTMH_BENCH_DATA", default).split()]
    for folder in found:
        if not folder.is_dir():
            raise UserError(f"no folder {folder}; name the data sets in MTMH_BENCH_DATA, with spaces between.")
    return found


def order_holds(models: dict[str, Any]) -> dict[str, bool]:
    """What must reproduce (paper section 6), for one run: model names as in metrics.json."""
    merged = models["merged_alpha_50"]
    engagement, relevance = models["engagement_head"], models["relevance_head"]
    best = max(models[name]["recall_at_500"] for name in BASELINES)
    falling = [models[f"merged_alpha_{alpha}"]["l2_relevance"] for alpha in (0, 30, 50, 70, 100)]
    return {
        "recall: merged >= engagement head": merged["recall_at_500"] >= engagement["recall_at_500"],
        "recall: merged >= 1.2 x best baseline": merged["recall_at_500"] >= 1.2 * best,
        "L2: relevance head > merged > engagement head": relevance["l2_relevance"]
        > merged["l2_relevance"]
        > engagement["l2_relevance"],
        "L2 falls as alpha rises": falling == sorted(falling, reverse=True),
    }


def _run(data: Path, seed: int, runs: Path, settings: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "mtmh_cli", "run", "--data", str(data), "--seed", str(seed), "--runs", str(runs)]
    subprocess.run([*command, *(f"--set={setting}" for setting in settings)], check=True)
    metrics: dict[str, Any] = json.loads((runs / "latest" / "metrics.json").read_text())
    if metrics["models"]["merged_alpha_50"]["l2_relevance"] is None:
        raise UserError(
            f"{data} has no L2 topics: there is no relevance to compare. Name other data in MTMH_BENCH_DATA."
        )
    return metrics


def _write(data: Path, runs: list[dict[str, Any]], less: dict[str, list[dict[str, Any]]]) -> None:
    spread = _figures(runs)
    held = [order_holds(run["models"]) for run in runs]
    order = {rule: [run[rule] for run in held] for rule in held[0]}
    without = {part: _figures(found) for part, found in less.items()}
    details = {
        "seeds": SEEDS,
        "order": order,
        "seconds": [round(sum(run["seconds"].values())) for run in runs],
        "peak_memory_mb": [max(run["peak_memory_mb"].values()) for run in runs],
        "models": spread,
        "without": without,
    }
    best = max(spread[name]["recall_at_500"]["mean"] for name in BASELINES)
    merged = spread["merged_alpha_50"]["recall_at_500"]["mean"]
    write(f"quality_{data.resolve().name}", merged, "recall@500 of the merge, mean of 3 seeds", best, details)
    for title, table in {"": spread, **without}.items():
        print(f"  without: {title}" if title else "  percent, mean [least, most]")
        for name, figures in table.items():
            print(f"  {name:16} " + "  ".join(f"{metric} {_percent(figure)}" for metric, figure in figures.items()))
    for rule, seeds in order.items():
        print(f"  {'holds' if all(seeds) else 'FAILS'} at {sum(seeds)} of {len(seeds)} seeds: {rule}")


def _figures(runs: list[dict[str, Any]]) -> dict[str, dict[str, dict[str, float]]]:
    """{model: {metric: spread over the runs}}, without the metrics that the data cannot give."""
    return {
        name: {
            metric: spread([run["models"][name][metric] for run in runs]) for metric in SHOWN if one[metric] is not None
        }
        for name, one in runs[0]["models"].items()
    }


def _percent(figure: dict[str, float]) -> str:
    return f"{100 * figure['mean']:5.2f} [{100 * figure['min']:.2f}, {100 * figure['max']:.2f}]"
