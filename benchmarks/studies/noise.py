"""Noise in the teacher: how much content may be wrong before the relevance head stops paying.

A share of the items' content vectors is replaced before training: by random unit vectors, by each
other's within their (first) L1 topic, or by each other's over all items. The noisy vectors are all
the content there is, as they would be in a run: the teacher of the distillation, where cold items
are put, and what the preranker knows of content. Measured on the validation tail of T1 with the
true topics; beside each row stands what the quality check says before training
(mtmh/content/quality.py). "L_e alone" is a model without a relevance head, with the same noisy
content behind it. The relevance head *pays* by the rule of `mtmh bench ablation`: recall@500 or L2
of the merge is above that model's on all seeds, and the other not below on all.
"""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from benchmarks.result import FOLDER, spread
from benchmarks.studies.ablation import verdict
from benchmarks.studies.grids import BEAUTY_ALONE, SEEDS, Setting, Study
from benchmarks.studies.study import (
    Data,
    Outcome,
    Seeds,
    Settings,
    Trials,
    config_of,
    existing,
    percent,
    run,
    short_name,
)
from benchmarks.style import COLORS, INK, QUIET, save, styled
from components.writers import WRITERS
from mtmh.config import Config, Section
from mtmh.content.quality import content_quality
from mtmh.data.clusters import cluster_by_topics
from mtmh.data.prepared import Prepared
from mtmh.evaluation.evaluate import evaluate_heads
from mtmh.stages import STAGES, StageFolders
from mtmh.version_hash import code_version
from pipelines.trial import Figures, model_folders, scratch

KINDS = ("random", "shuffled in topic", "shuffled")
SHARES = (25, 50, 75, 100)  # percent
NOISES = [("clean", 0), *((kind, share) for kind in KINDS for share in SHARES)]
MODELS = {"engagement_head": "H1", "relevance_head": "H2", "merged": "merged", "alone": "L_e alone"}
LEVELS = ("auc", "match_at_10", "chance")
METRICS = ("recall_at_20", "recall_at_500", "l2_relevance", "cold_recall_at_500", *LEVELS)
PANELS = {"recall_at_500": "recall@500, %", "l2_relevance": "L2 relevance, %"}


def main(data: Data = BEAUTY_ALONE, seeds: Seeds = SEEDS, settings: Settings = None) -> None:
    """Heads and merge over the share of content that is noise, beside the quality check."""
    study = Study([()], METRICS, merge="clean 0 %: merged")
    run("noise", judge, data, seeds, settings, try_noises, study)
    for source in existing(data):
        name = f"noise_{short_name(source)}"
        rows = json.loads((FOLDER / f"{name}.json").read_text())["details"]["rows"]
        save(draw(rows), FOLDER / f"{name}.png")


def try_noises(source: str, setting: Setting, seed: int) -> Figures:
    """{"kind share %: model": its figures} at one seed; what is there is read, not run again."""
    setting, work = (*setting, "data.period=validation"), scratch(source).resolve()
    config = config_of(source, setting, seed)
    folders = model_folders(source, config, work)
    # The model without a relevance head does not depend on content: it is trained once.
    engagement = config_of(source, (*setting, "train.objective=engagement"), seed)
    alone = model_folders(source, engagement, work).model
    data, vectors = Prepared.load(folders.prepared), np.load(folders.content / "content.npy")
    topics = cluster_by_topics(data.topic_bits("l1")).of_item  # the first of each item
    figures: Figures = {}
    for kind, share in NOISES:
        content = noisy(vectors, topics, kind, share / 100, seed)
        recipe = json.dumps([config.model_dump(), code_version()]).encode() + content.tobytes()
        file = work / "noise" / f"{hashlib.sha256(recipe).hexdigest()[:12]}.json"
        if not file.exists():
            row = try_noise(folders, alone, config, content, work / "noise" / "unfinished")
            # Under its name only once it is whole.
            draft = file.with_suffix(".unfinished")
            draft.write_text(json.dumps(row, indent=1))
            draft.rename(file)
        row = json.loads(file.read_text())
        figures |= {f"{kind} {share} %: {model}": values for model, values in row.items()}
        print(f"noise: seed {seed}, {kind} {share} %: merged {row['merged']}", flush=True)
    return figures


def try_noise(
    clean: StageFolders, alone: Path, config: Config, content: np.ndarray, work: Path
) -> Figures:
    """Both heads, the merge and the model `alone` with this content, and the quality check."""
    # A content folder like the clean one, but for its vectors: all stages behind it read this.
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(clean.content, work / "content")
    np.save(work / "content" / "content.npy", content)
    folders = replace(clean, content=work / "content")
    # The clean model is there already.
    if not np.array_equal(content, np.load(clean.content / "content.npy")):
        folders = _made("train", folders, config.train, config, work)
    folders = _made("preranker", folders, config.prerank, config, work)
    figures: Figures = {}
    for model in (folders.model, alone):
        built = _made("index", replace(folders, model=model), config.retrieval, config, work)
        inputs = clean.prepared, clean.content, built.retriever
        hours = config.evaluation.fresh_hours
        rows = evaluate_heads(*inputs, config.retrieval, hours)
        figures |= {"alone": rows["merged"]} if model == alone else rows
        shutil.rmtree(built.retriever)
    quality = content_quality(content, Prepared.load(clean.prepared), config.seed)
    shutil.rmtree(work)
    return figures | {"quality": {m: getattr(quality, m, None) for m in LEVELS}}


def _made(
    name: str, folders: StageFolders, settings: Section, config: Config, work: Path
) -> StageFolders:
    """The folders with what the stage `name` makes of them."""
    stage = next(stage for stage in STAGES if stage.name == name)
    out = work / stage.artifact
    out.mkdir()
    WRITERS[stage.name](folders, out, settings, config.seed, work)
    return replace(folders, **{stage.artifact: out})


def noisy(vectors: np.ndarray, topic: np.ndarray, kind: str, share: float, seed: int) -> np.ndarray:
    """`vectors`, float32 [items, d], with a `share` of those that are not zero replaced.

    "random": by random unit vectors. "shuffled": by each other's, all items' or, "shuffled in
    topic", those of the same `topic`, int [items]; an item alone in its topic keeps its own. The
    same seed replaces the more items the larger the share.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(np.flatnonzero(vectors.any(axis=1)))
    rows = order[: round(share * len(order))]
    drawn = vectors.copy()
    if kind == "random":
        noise = rng.normal(size=(len(rows), vectors.shape[1])).astype(np.float32)
        drawn[rows] = noise / np.linalg.norm(noise, axis=1, keepdims=True)
        return drawn
    group = topic[rows] if kind == "shuffled in topic" else np.zeros(len(rows), np.int64)
    for number in np.unique(group):
        # In a random order each takes the next one's: nobody keeps its own.
        members = rows[group == number]
        drawn[members] = vectors[np.roll(members, -1)]
    return drawn


def judge(trials: Trials) -> Outcome:
    """The merge with half of the content replaced at random, beside the clean one."""
    figures, (runs,) = trials.table(()), trials.runs.values()
    rows: dict[str, Any] = {}
    for kind, share in NOISES:
        name = f"{kind} {share} %"
        models = {model: figures[f"{name}: {model}"] for model in (*MODELS, "quality")}
        gain = {
            metric: spread(
                [
                    (run[f"{name}: merged"][metric] or 0) - (run[f"{name}: alone"][metric] or 0)
                    for run in runs
                ]
            )
            for metric in PANELS
        }
        pays = verdict(gain["recall_at_500"], gain["l2_relevance"])
        rows[name] = {"models": models, "merged_less_alone": gain, "verdict": pays}
    details = {"period": "validation tail of T1", "seeds": trials.seeds, "rows": rows}
    value, baseline = (
        rows[name]["models"]["merged"]["l2_relevance"]["mean"]
        for name in ("random 50 %", "clean 0 %")
    )
    unit = "L2 relevance of the merge with half of the content random, beside clean content"
    return Outcome(value, unit, baseline, details, table(rows))


def table(rows: dict[str, Any]) -> list[str]:
    """Lines for the screen, percent: R@500 and L2 of each list, the check, the verdict."""
    lines = ["  R@500 / L2 of each list, percent; the quality check; does the relevance head pay?"]
    for name, row in rows.items():
        figures = "  ".join(
            f"{label} " + " / ".join(f"{100 * row['models'][model][m]['mean']:.1f}" for m in PANELS)
            for model, label in MODELS.items()
        )
        auc, match, _ = (row["models"]["quality"][level]["mean"] for level in LEVELS)
        gain = ", ".join(percent(row["merged_less_alone"][m], signed=True) for m in PANELS)
        lines.append(f"  {name:23} {figures}  AUC {auc:.3f}, match {match:.1%}  {row['verdict']}")
        lines.append(f"  {'':23} merged less L_e alone: {gain}")
    return lines


@styled
def draw(rows: dict[str, Any]) -> Figure:
    """A column a kind of noise, recall above, L2 relevance below; the check's AUC at the share."""
    figure = Figure(figsize=(11.5, 6.2), layout="constrained")
    panels = figure.subplots(2, len(KINDS), sharex="col", sharey="row")
    colors = {"engagement_head": "engagement", "relevance_head": "relevance", "merged": "merged"}
    for column, kind in enumerate(KINDS):
        names = ["clean 0 %", *(f"{kind} {share} %" for share in SHARES)]
        for axes, metric in zip(panels[:, column], PANELS, strict=True):
            for model, label in MODELS.items():
                y = [100 * rows[name]["models"][model][metric]["mean"] for name in names]
                color = COLORS[colors[model]] if model in colors else QUIET
                axes.plot((0, *SHARES), y, color=color, marker="o", markersize=4, label=label)
        aucs = [rows[name]["models"]["quality"]["auc"]["mean"] for name in names]
        ticks = [f"{s}\nAUC {auc:.2f}" for s, auc in zip((0, *SHARES), aucs, strict=True)]
        panels[1, column].set_xticks((0, *SHARES), ticks)
        panels[1, column].set_xlabel("share of content replaced, %")
        panels[0, column].set_title(kind, size=11, loc="left", color=INK)
    for axes, words in zip(panels[:, 0], PANELS.values(), strict=True):
        axes.set_ylabel(words)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    return figure
