"""Recall and relevance on public data: the whole pipeline on T2, topics kept out of model and
content text.

Each seed is run again with the settings of WITHOUT, which the model does not depend on: training
comes from the cache.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.studies.grids import DATA, SEEDS, WITHOUT, Setting
from benchmarks.studies.study import Data, Outcome, Seeds, Settings, Trials, lines, run
from mtmh.evaluation.evaluate import BASELINES
from pipelines.trial import Figures

PIPELINE = "pipeline"  # among the models: seconds and memory of the run


def main(data: Data = DATA, seeds: Seeds = SEEDS, settings: Settings = None) -> None:
    """Recall and relevance of every model on T2; does the paper's order hold at every seed?"""
    with tempfile.TemporaryDirectory() as runs:
        run("quality", judge, data, seeds, settings, partial(run_pipeline, Path(runs)))


def run_pipeline(runs: Path, source: str, setting: Setting, seed: int) -> Figures:
    """The models of metrics.json, and what the run took."""
    command = [
        sys.executable,
        "-m",
        "mtmh_cli",
        "run",
        "--data",
        source,
        "--seed",
        str(seed),
        "--runs",
        str(runs),
    ]
    # By the command line, as anybody would run it, and with nothing of this process in its memory.
    subprocess.run([*command, *(f"--set={part}" for part in setting)], check=True)
    metrics = json.loads((runs / "latest" / "metrics.json").read_text())
    # The stages run one after the other: seconds add up, memory does not.
    cost = {
        "seconds": sum(metrics["seconds"].values()),
        "peak_memory_mb": max(metrics["peak_memory_mb"].values()),
    }
    return {**metrics["models"], PIPELINE: cost}


def judge(trials: Trials) -> Outcome:
    """The merge beside the best baseline, and at how many seeds each rule holds."""
    table = trials.table(())
    without = {part: trials.table(setting) for part, setting in WITHOUT.items()}
    # The paper's order must hold at each seed, not only on average.
    by_seed = [order_holds(models) for models in trials.runs[()]]
    order = {rule: [rules[rule] for rules in by_seed] for rule in by_seed[0]}
    details = {
        "seeds": list(range(trials.seeds)),
        "order": order,
        "seconds": [round(seconds) for seconds in trials.figures((), "seconds", PIPELINE)],
        "peak_memory_mb": trials.figures((), "peak_memory_mb", PIPELINE),
        "models": table,
        "without": without,
    }
    text = ["  percent, mean [least, most]", *lines(table)]
    for part, models in without.items():
        text += [f"  without: {part}", *lines(models)]
    for rule, holds in order.items():
        text.append(
            f"  {'holds' if all(holds) else 'FAILS'} at {sum(holds)} of {len(holds)} seeds: {rule}"
        )
    best = max(table[name]["recall_at_500"]["mean"] for name in BASELINES if name in table)
    merged = table["merged_alpha_50"]["recall_at_500"]["mean"]
    unit = f"recall@500 of the merge, mean of {trials.seeds} seeds"
    return Outcome(merged, unit, best, details, text)


def order_holds(models: Mapping[str, Any]) -> dict[str, bool]:
    """What must reproduce (paper section 6), for one run: model names as in metrics.json."""
    merged = models["merged_alpha_50"]
    engagement, relevance = models["engagement_head"], models["relevance_head"]
    best = max(models[name]["recall_at_500"] for name in BASELINES if name in models)
    falling = [models[f"merged_alpha_{alpha}"]["l2_relevance"] for alpha in (0, 30, 50, 70, 100)]
    return {
        "recall: merged >= engagement head": merged["recall_at_500"] >= engagement["recall_at_500"],
        "recall: merged >= 1.2 x best baseline": merged["recall_at_500"] >= 1.2 * best,
        "L2: relevance head > merged > engagement head": relevance["l2_relevance"]
        > merged["l2_relevance"]
        > engagement["l2_relevance"],
        "L2 falls as alpha rises": falling == sorted(falling, reverse=True),
    }
