"""What a run leaves: one directory with its settings, its figures and the resulting version."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from mtmh.config import Config, PrerankSettings, RetrievalSettings
from mtmh.errors import UserError
from mtmh.stages import STAGES, StageFolders


def write(
    run: Path,
    folders: StageFolders,
    config: Config,
    code_version: str,
    seed: int,
    source: str,
) -> None:
    """Assemble the directory `run` from the stages' folders, whole or not at all
    (the report comes after).

    Written: config.yaml, metrics.json, candidates.parquet, rejected.parquet when rows were
    rejected, curves.parquet and retriever/. Files are copied, never linked: a later run that
    overwrites a stage's file must not reach into this one.

    Raises UserError when `run` exists, ValueError when a stage is missing.
    """
    made = dict(folders.by_stage())
    if missing := [stage.name for stage in STAGES if stage not in made]:
        raise ValueError(
            f"a run directory needs the folders of all stages; missing: {', '.join(missing)}"
        )
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise UserError(
            f"run directory {run} exists already and is kept as it is: choose another run id."
        )
    # Assembled under a hidden name beside it and renamed at the end.
    run.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{run.name}.", dir=run.parent))
    try:
        draft.chmod(0o755)  # mkdtemp lets nobody else in
        figures = metrics(folders, config, code_version, seed, source)
        (draft / "metrics.json").write_text(json.dumps(figures, indent=2, allow_nan=False) + "\n")
        settings = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
        (draft / "config.yaml").write_text(settings)
        shutil.copy2(folders.result / "candidates.parquet", draft)
        shutil.copy2(folders.model / "curves.parquet", draft)
        if (rejected := folders.prepared / "rejected.parquet").is_file():
            shutil.copy2(rejected, draft)
        # step.json is of the stage, not of the version, and the version's
        # manifest does not name it.
        ignore = shutil.ignore_patterns("step.json")
        shutil.copytree(folders.retriever, draft / "retriever", ignore=ignore)
        draft.rename(run)
    except BaseException:  # also when interrupted from the keyboard
        shutil.rmtree(draft)
        raise


def metrics(
    folders: StageFolders,
    config: Config,
    code_version: str,
    seed: int,
    source: str,
) -> dict[str, Any]:
    """The content of metrics.json: data, models, sample, gate, definitions,
    seconds and memory of each step.
    """
    evaluation = _json(folders.result / "evaluation.json")
    # Only a stage that was measured has the file.
    files = [folder / "step.json" for _, folder in folders.by_stage()]
    steps = [_json(file) for file in files if file.is_file()]
    pairs = pq.read_metadata(folders.pairs / "pairs.parquet").num_rows
    return {
        "data": {**_json(folders.prepared / "prepared.json"), "path": source, "pairs": pairs},
        "models": evaluation["models"],
        "sample": evaluation["sample"],
        "gate": _json(folders.verdict / "verdict.json"),
        "definitions": definitions(config.retrieval, config.prerank, config.evaluation.fresh_hours),
        "seconds": {step["step"]: step["seconds"] for step in steps},
        "peak_memory_mb": {step["step"]: step["peak_memory_mb"] for step in steps},
        "code_version": code_version,
        "seed": seed,
    }


def definitions(
    settings: RetrievalSettings,
    prerank: PrerankSettings,
    fresh_hours: float,
) -> dict[str, str]:
    """One sentence a metric, so that anyone can recompute the figures from
    candidates.parquet and the data.
    """
    # A preranker changes what a score is, so the sentence on scores must say so.
    preranked = ""
    if prerank.use:
        preranked = (
            f"The first {prerank.candidates} candidates of a head are then ranked by that times "
            f"exp({prerank.weight} * the preranker's logit of engagement + "
            f"{prerank.long_dwell_weight} * that of long dwell, where it learned it), and the "
            "product, normalized over them, is the head's score. "
        )
    return {
        # With this run's own settings: fixed numbers would be wrong for the next run.
        "protocol": "For each test user (T1 events, and a T2 item new to the user) the last "
        f"{settings.triggers} distinct T1 items are the triggers; their candidates without the "
        "user's T1 items, each with the trigger that retrieved it with the best similarity, are "
        f"sorted by score; the first {settings.pool} are the user's list. A head's score, and "
        "that of content, is p(candidate | user): the mean over the user's triggers of the "
        f"softmax over the trigger's candidates of similarity / {settings.temperature}. "
        f"{preranked}Null = the data has nothing to measure it on.",
        "recall_at_k": "Share of a user's targets (distinct T2 items not engaged with in T1) "
        "among the first k of the list, averaged over test users.",
        "l1_relevance": "Share of the (trigger, candidate) pairs of all lists whose items share "
        "an L1 (coarse) topic.",
        "l2_relevance": "Share of the (trigger, candidate) pairs of all lists whose items share "
        "an L2 (fine) topic.",
        "coverage": "Distinct items in the lists of all test users, divided by the number of "
        "items.",
        "intra_list_diversity": "Mean over test users of the mean cosine distance between the "
        "content vectors of two items of the list.",
        "cold_share": "Share of the candidates of all lists that had no interaction in T1.",
        "cold_recall_at_500": "Recall at 500 of those targets alone that had no interaction in "
        "T1, averaged over the test users that have one.",
        "fresh_share": "Share of the candidates of all lists that were first there (created or "
        f"first engaged with, whichever is earlier) less than {fresh_hours:g} hours before the "
        "split; what is first there after the split is cold and not fresh.",
        "fresh_recall_at_500": "Recall at 500 of those targets alone that are fresh, averaged "
        "over the test users that have one.",
    }


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text())
    return content
