"""Choose the teacher's temperature and w_r for a data set, on the validation tail of T1 (never on
T2)."""

import itertools
from pathlib import Path
from typing import Any

import yaml

from mtmh.config import Config
from mtmh.errors import UserError
from pipelines.arguments import CONFIGS, data_name
from pipelines.trial import try_out

TAU_Q = (0.05, 0.07)
W_R = (0.35, 0.5, 0.7, 1.0)
MODELS = {"": "merged", "engagement_": "engagement_head", "relevance_": "relevance_head"}
RECALL_SLACK = 0.01  # share of the best recall that may be given for relevance


def tune(source: str, config: Config, work: Path) -> dict[str, Any]:
    """Train once for each of TAU_Q x W_R and return the chosen setting with all trials.

    Chosen is the highest L2 relevance of the merge among settings whose merged recall@500 is within
    1 % of the best and not below their own engagement head's; without topics, the best recall. What
    trials share is made once under `work`, and a trial that is there already is not trained again.
    Raises UserError when one head alone is trained, as there is no merge to choose for, and for
    heads with weights of their own.
    """
    if config.train.heads:
        raise UserError(
            "train.heads has its weights written out, so there is no w_r to choose."
            " Tune with train.heads=[], and write the heads afterwards."
        )
    if config.train.objective not in ("mtmh", "stmh"):
        raise UserError(
            f"train.objective is {config.train.objective}: one head,"
            " so there is no merge to choose tau_q and w_r for. "
            "Tune with train.objective=mtmh."
        )
    trials = []
    for tau_q, w_r in itertools.product(TAU_Q, W_R):
        train = config.train.model_copy(update={"tau_q": tau_q, "w_r": w_r})
        trial: dict[str, Any] = {"tau_q": tau_q, "w_r": w_r}
        figures = try_out(source, config.model_copy(update={"train": train}), work)
        # Of each model's figures the two that the choice weighs: recall, and relevance by topics.
        for prefix, model in MODELS.items():
            trial[f"{prefix}recall"] = figures[model]["recall_at_500"]
            trial[f"{prefix}l2_relevance"] = figures[model]["l2_relevance"]
        trials.append(trial)
        print(f"tune: {len(trials)} of {len(TAU_Q) * len(W_R)}: {_line(trials[-1])}", flush=True)
    best = choose(trials)
    print(f"tune: chosen: {_line(best)}", flush=True)
    return {"data": data_name(source), "seed": config.seed, "chosen": best, "trials": trials}


def choose(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """The rule of `tune`; where no trial's merge reaches its engagement head's recall, all are
    looked at."""
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


def _line(trial: dict[str, Any]) -> str:
    names = ("engagement_recall", "relevance_recall", "recall", "l2_relevance")
    figures = ", ".join(
        f"{name} {100 * trial[name]:.2f} %" for name in names if trial[name] is not None
    )
    return f"tau_q {trial['tau_q']}, w_r {trial['w_r']}: {figures}"
