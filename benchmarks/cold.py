"""What finds cold and fresh items: ids alone, id dropout with creators and numbers, content neighbours, and both.

Runs the whole pipeline for each on the folders named in MTMH_BENCH_DATA (default: Yelp, Amazon Beauty and Globo in
../shared/data), one seed, and writes cold_<folder>.json: recall@500 on targets that T1 does not know (cold) and on
those first there less than a day before the split (fresh), and their share of the lists, for each model. Globo has no
text, so nothing there is placed by content, and no creators: its cold items are all alike, and the fresh ones count.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.quality import folders
from benchmarks.result import spread, write

SEEDS = (0,)  # more take long: five variants a data set, each of them trained
DEFAULT = "../shared/data/yelp2019 ../shared/data/amazon-beauty ../shared/data/globo"
IDS_ALONE = "ids alone"
BY_MODEL = {
    IDS_ALONE: ["data.id_features=[]", "data.statistics=[]", "train.id_dropout=0", "retrieval.cold=model"],
    "creators and numbers": ["train.id_dropout=0", "retrieval.cold=model"],
    "id dropout, creators and numbers": ["train.id_dropout=0.1", "retrieval.cold=model"],
}
BY_CONTENT = {
    "content neighbours": ["train.id_dropout=0", "retrieval.cold=content"],
    "id dropout and content neighbours": ["train.id_dropout=0.1", "retrieval.cold=content"],
}
SHOWN = ("recall_at_500", "cold_share", "cold_recall_at_500", "fresh_share", "fresh_recall_at_500")


def main() -> None:
    """Run every variant that the data allows, and compare with ids alone."""
    for data in folders(DEFAULT):
        with tempfile.TemporaryDirectory() as runs:
            found = {name: [_run(data, seed, Path(runs), given) for seed in SEEDS] for name, given in BY_MODEL.items()}
            has_text = found[IDS_ALONE][0]["data"]["has_text"]
            for name, given in BY_CONTENT.items() if has_text else ():
                found[name] = [_run(data, seed, Path(runs), given) for seed in SEEDS]
        _write(data, found, "cold_recall_at_500" if has_text else "fresh_recall_at_500")


def _run(data: Path, seed: int, runs: Path, settings: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "mtmh.cli", "run", "--data", str(data), "--seed", str(seed), "--runs", str(runs)]
    subprocess.run([*command, *(f"--set={setting}" for setting in settings)], check=True)
    metrics: dict[str, Any] = json.loads((runs / "latest" / "metrics.json").read_text())
    return metrics


def _write(data: Path, found: dict[str, list[dict[str, Any]]], headline: str) -> None:
    models = [name for name in found[IDS_ALONE][0]["models"] if not name.startswith("merged")] + ["merged_alpha_50"]
    table = {
        variant: {
            model: {
                metric: spread(values)
                for metric in SHOWN
                if None not in (values := [run["models"][model][metric] for run in runs])
            }
            for model in models
        }
        for variant, runs in found.items()
    }
    means = {variant: told["merged_alpha_50"][headline]["mean"] for variant, told in table.items()}
    best = max(means, key=lambda variant: means[variant])
    details = {
        "seeds": SEEDS,
        "metric": headline,
        "variant": best,
        "baseline": IDS_ALONE,
        "settings": {name: given for name, given in {**BY_MODEL, **BY_CONTENT}.items() if name in found},
        "seconds": {name: [round(sum(run["seconds"].values())) for run in runs] for name, runs in found.items()},
        "peak_memory_mb": max(max(run["peak_memory_mb"].values()) for runs in found.values() for run in runs),
        "variants": table,
    }
    write(f"cold_{data.resolve().name}", means[best], f"{headline} of the merge", means[IDS_ALONE], details)
    for variant, told in table.items():
        print(f"  {variant}")
        for model, figures in told.items():
            line = "  ".join(f"{metric} {100 * figure['mean']:5.2f}" for metric, figure in figures.items())
            print(f"    {model:16} {line}")
