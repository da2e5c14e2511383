"""Choose the teacher's temperature and w_r for a data set, on the validation tail of T1 (never on T2).

The stages are the pipeline's own; `period: validation` drops T2 and lets the tail of T1 take its place.
"""

import itertools
import json
from pathlib import Path
from typing import Any

import yaml

from mtmh.config import Config, TrainSettings
from pipelines.arguments import CONFIGS, data_name

TAU_Q = (0.05, 0.07)
W_R = (0.25, 0.35, 0.5, 0.7)
RECALL_SLACK = 0.01  # share of the best recall that may be given for relevance


def tune(source: str, config: Config, work: Path) -> dict[str, Any]:
    """Train once for each of TAU_Q x W_R and return the chosen setting with all trials.

    Chosen is the highest L2 relevance of the merge among settings whose merged recall@500 is within 1 % of the best
    and not below their own engagement head's; without topics, the best recall. What is shared (pairs, features) is
    made once under `work`, and a trial that is there already is not trained again.
    """
    base = config.model_copy(update={"data": config.data.model_copy(update={"period": "validation"})})
    _prepare(source, base, work)
    trials = []
    for tau_q, w_r in itertools.product(TAU_Q, W_R):
        settings = base.train.model_copy(update={"tau_q": tau_q, "w_r": w_r})
        trial = {"tau_q": tau_q, "w_r": w_r, **_trial(base, settings, work)}
        trials.append(trial)
        print(f"tune: {_line(trial)}", flush=True)
    best = choose(trials)
    print(f"tune: chosen: {_line(best)}", flush=True)
    return {"data": data_name(source), "seed": base.seed, "chosen": best, "trials": trials}


def choose(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """The rule of `tune`; where no trial's merge reaches its engagement head's recall, all are looked at."""
    sound = [trial for trial in trials if trial["recall"] >= trial["engagement_recall"]] or trials
    enough = (1 - RECALL_SLACK) * max(trial["recall"] for trial in sound)
    near = [trial for trial in sound if trial["recall"] >= enough]
    return max(near, key=lambda trial: (trial["l2_relevance"] or 0.0, trial["recall"]))


def write_overlay(result: dict[str, Any]) -> Path:
    """Keep the choice where `mtmh run` finds it by the data folder's name."""
    chosen, path = result["chosen"], CONFIGS / "data" / f"{result['data']}.yaml"
    before: dict[str, Any] = yaml.safe_load(path.read_text()) if path.exists() else {}
    train = {**before.get("train", {}), "tau_q": chosen["tau_q"], "w_r": chosen["w_r"]}
    note = f"# tau_q and w_r by `mtmh tune` on the validation tail of T1, seed {result['seed']}.\n"
    path.write_text(note + yaml.safe_dump({**before, "train": train}, sort_keys=False))
    return path


def _prepare(source: str, config: Config, work: Path) -> None:
    """The stages that no trial changes."""
    from feature_repo.stage import build_features
    from mtmh.clock import measured
    from mtmh.content.encode import encode
    from mtmh.data.pairs import write_pairs
    from mtmh.data.prepare import prepare

    for name in ("prepare", "content", "features", "pairs"):
        (work / name).mkdir(parents=True, exist_ok=True)
    prepare(source, work / "prepare", config.data, config.seed)
    with measured("content", work / "content"):
        encode(work / "prepare", work / "content", config.content, work / "cache", config.seed)
    build_features(work / "prepare", work / "content", work / "features", work / "features" / "store", config.data)
    with measured("pairs", work / "pairs"):
        write_pairs(work / "prepare", work / "content", work / "pairs", config.pairs)


def _trial(config: Config, settings: TrainSettings, work: Path) -> dict[str, float | None]:
    from mtmh.evaluation.evaluate import evaluate
    from mtmh.retrieval.version import build
    from mtmh.training.train import train

    here = work / f"tau_q_{settings.tau_q}_w_r_{settings.w_r}"
    made = here / "evaluate" / "evaluation.json"
    if not made.exists():
        for name in ("train", "index", "evaluate"):
            (here / name).mkdir(parents=True, exist_ok=True)
        prepared, features, content, pairs = (work / name for name in ("prepare", "features", "content", "pairs"))
        checkpoints = here / "checkpoints"
        train(prepared, features, content, pairs, here / "train", settings, config.seed, checkpoints)
        build(prepared, features, content, here / "train", here / "index", config.retrieval, config.seed)
        told = config.retrieval, config.evaluation, config.seed
        evaluate(prepared, content, here / "index", None, here / "evaluate", *told)
    models = json.loads(made.read_text())["models"]
    merged = models[f"merged_alpha_{config.retrieval.alpha}"]
    return {
        "recall": merged["recall_at_500"],
        "l2_relevance": merged["l2_relevance"],
        "engagement_recall": models["engagement_head"]["recall_at_500"],
        "engagement_l2_relevance": models["engagement_head"]["l2_relevance"],
        "relevance_recall": models["relevance_head"]["recall_at_500"],
        "relevance_l2_relevance": models["relevance_head"]["l2_relevance"],
    }


def _line(trial: dict[str, Any]) -> str:
    shown = {name: trial[name] for name in ("engagement_recall", "relevance_recall", "recall", "l2_relevance")}
    figures = ", ".join(f"{name} {100 * value:.2f} %" for name, value in shown.items() if value is not None)
    return f"tau_q {trial['tau_q']}, w_r {trial['w_r']}: {figures}"
