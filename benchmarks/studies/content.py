"""What contrastive training makes of the content encoder: topic match of the ten nearest, before
and after.

MovieLens: titles, posters, keywords as concepts, genres as topics. MIND: titles with abstracts,
entities as concepts, subcategories as topics (L2; categories, L1, beside them). Before = principal
components of the frozen backbones; after = trained on the concepts, three seeds.

Held-out items are a fifth of those with concepts, topics and (where the data have images) an image,
by the hash of their id: the same at every seed, and none of their concepts is trained on. Training
stops by a third part, a seeded tenth of the other items with concepts. Concepts with a topic's name
among their words are left out. No image weights could be had where this was written: the visual
backbone is a small ViT with random weights, which sees colours and their layout, not what is shown.
"""

import hashlib
import re
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.result import spread, write
from benchmarks.studies.study import Data, Seeds, existing
from mtmh.config import ContentSettings, load_config
from mtmh.content.concepts import Concepts, read_concepts
from mtmh.content.contrastive import train_tower, untrained_tower
from mtmh.content.encode import read_features
from mtmh.content.encoder import ContentEncoder
from mtmh.content.features import Backbones
from mtmh.content.projection import project_features
from mtmh.content.quality import NEIGHBOURS, area_under_curve, neighbour_match
from mtmh.data.prepare import prepare
from mtmh.data.prepared import Prepared
from mtmh.errors import UserError
from pipelines.arguments import layers

# at the start: the default, and MovieLens's, chosen there on items that are not held out here
TAUS = (0.07, 0.2)
DATA = ["../shared/data/movielens-small", "../shared/data/mind-sample"]
MODALITIES: tuple[list[Literal["text", "image"]], ...] = (["text"], ["image"], ["text", "image"])
PARTS = 5  # the items fall into so many parts, and one is held out
VIT = (
    "ViT of 4 layers, 192 wide, patches of 8, posters of 64 x 96: random weights (seed 0),"
    " trained on nothing"
)
# Of interactions nothing is used here, and of those of a sample most are with items that are not in
# it.
SETTINGS = ["data.max_rejected_share=1"]


def main(data: Data = DATA, seeds: Seeds = 3) -> None:
    """Topic match of the ten nearest items before and after training, by modalities and
    temperature."""
    for folder in existing(data):
        with tempfile.TemporaryDirectory() as scratch:
            _measure(Path(folder), Path(scratch), seeds)


def _measure(folder: Path, work: Path, seeds: int) -> None:
    settings = load_config(*layers(str(folder), "laptop", None), settings=SETTINGS)
    prepare(str(folder), work / "prepared", settings.data, seed=0)
    data = Prepared.load(work / "prepared")
    concepts = without_topics(read_concepts(data), data)
    test = held_out(data, concepts)
    if not test.any():
        raise UserError(
            f"{folder} has no items with concepts and topics to judge by; name others with --data."
        )
    # Random weights: what is measured is the towers over a backbone, not the backbone.
    visual = random_vit(work / "vit")
    taus = sorted({*TAUS, settings.content.concepts.tau})
    results: dict[str, dict[str, Any]] = {f"tau starts at {tau}": {} for tau in taus}
    for modalities in MODALITIES if _pictured(data).any() else MODALITIES[:1]:
        changes = {"visual_backbone": str(visual), "modalities": modalities}
        chosen = ContentSettings.model_validate({**settings.content.model_dump(), **changes})
        for tau, figures in compare(
            data, chosen, concepts, test, taus, work / "cache", seeds
        ).items():
            results[f"tau starts at {tau}"][" and ".join(modalities)] = figures
    _write(
        folder.name,
        f"tau starts at {settings.content.concepts.tau}",
        results,
        concepts,
        test,
        seeds,
    )


def compare(
    data: Prepared,
    settings: ContentSettings,
    concepts: Concepts,
    test: np.ndarray,
    taus: list[float],
    cache: Path,
    seeds: int,
) -> dict[float, dict[str, Any]]:
    """For each temperature to start from: the figures of `judge` before, and over the seeds
    after."""
    device = torch.device("cpu")
    options = settings.model_dump(include={"max_tokens", "batch_size"})
    backbones = Backbones(
        settings.backbone, settings.visual_backbone, **options, device=device, cache=cache
    )
    features, _ = read_features(data, settings, backbones)
    assert features is not None
    names = backbones.texts(concepts.names)
    # What the towers start from is the baseline: the same features, not trained.
    start = project_features(features, settings.dim)
    seen = concepts.of_items(features.has_content() & ~test)
    results = {}
    for tau in taus:
        chosen = settings.concepts.model_copy(update={"tau": tau})
        after = []
        # Seeds differ in the tower's weights and the order of its batches.
        for seed in range(seeds):
            tower = untrained_tower(features, start, settings.dim, chosen.hidden, seed)
            fitted = train_tower(tower, features, start, names, seen, chosen, seed, device)
            figures = judge(ContentEncoder(tower, backbones).infer(features), data, test)
            after.append({**figures, "best_epoch": fitted.best_epoch})
        before = judge(start.vectors, data, test)
        results[tau] = {
            "before": {name: round(value, 4) for name, value in before.items()},
            "after": {
                name: spread([seed_figures[name] for seed_figures in after]) for name in after[0]
            },
        }
    return results


def held_out(data: Prepared, concepts: Concepts) -> np.ndarray:
    """Bool [items]: one in five of the items with concepts, L2 topics and, if any item has one, an
    image, by the id."""
    tagged = np.zeros(data.n_items, bool)
    tagged[concepts.item] = True
    pictured = _pictured(data)
    whole = tagged & _topics(data)[""].any(axis=1) & (pictured | ~pictured.any())
    return np.asarray(whole & (part_of(data) == 0))


def part_of(data: Prepared) -> np.ndarray:
    """Int [items]: each item's part, 0 to 4, by its id alone."""
    ids = data.items["item_id"].to_pylist()
    return np.array([hashlib.sha256(item_id.encode()).digest()[0] for item_id in ids]) % PARTS


def judge(vectors: np.ndarray, data: Prepared, judged: np.ndarray) -> dict[str, float]:
    """Of the items `judged`: topic match of the ten nearest among each other and among all items;
    AUC of pairs.

    By L2 topics; where L1 topics are others, by them too, under names that begin with "l1_".
    """
    results: dict[str, float] = {}
    for level, bits in _topics(data).items():
        # An item without topics can match nobody, whatever its vector says.
        rows = np.flatnonzero(judged & bits.any(axis=1))
        every = np.flatnonzero(bits.any(axis=1) & vectors.any(axis=1))
        judged_vectors, judged_bits = vectors[rows], bits[rows]
        # Every pair once: does the cosine tell those that share a topic from the others?
        first, second = np.triu_indices(len(rows), 1)
        same = (judged_bits[first] & judged_bits[second]).any(axis=1)
        auc = area_under_curve(
            np.einsum("nd,nd->n", judged_vectors[first], judged_vectors[second]), same
        )
        assert auc is not None
        # Here the neighbours may also be items that were trained on.
        among_all = neighbour_match(vectors[every], bits[every], np.searchsorted(every, rows))
        results |= {
            f"{level}match_at_10": neighbour_match(
                judged_vectors, judged_bits, np.arange(len(rows))
            ),
            f"{level}match_at_10_among_all_items": among_all,
            f"{level}auc": auc,
            f"{level}chance": float(same.mean()),
        }
    return results


def random_vit(folder: Path) -> Path:
    """A small ViT with random weights, saved as a Hugging Face directory."""
    from transformers.utils import logging

    # Quiet, as progress bars would stand between the figures on the screen.
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    # Seeded, without moving the generator that others draw from.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = ViTConfig(
            image_size=(96, 64),
            patch_size=8,
            hidden_size=192,
            intermediate_size=768,
            num_hidden_layers=4,
            num_attention_heads=3,
        )
        ViTModel(shape).save_pretrained(folder)
    ViTImageProcessor(size={"height": 96, "width": 64}).save_pretrained(folder)
    return folder


def without_topics(concepts: Concepts, data: Prepared) -> Concepts:
    """The pairs whose concept has no topic's name among its words: "civil war" teaches "War".

    L2 names that are made of others are taken apart: "football_nfl" is football and nfl,
    "newspolitics" of the topic "news" is politics. What is left of a name counts from three letters
    on, or "videos" would leave the s of "Macy's".
    """
    upper, lower = ({name.lower() for name in data.topic_names(level)} for level in ("l1", "l2"))
    rests = {name.removeprefix(prefix).strip("-_ ") for name in lower - upper for prefix in upper}
    words = (
        upper
        | lower
        | {word for name in rests for word in (name, *name.split("_")) if len(word) > 2}
    )
    spelled = re.compile(rf"\b({'|'.join(map(re.escape, sorted(words)))})\b")
    clean = np.array([spelled.search(name) is None for name in concepts.names])
    return concepts.where(clean[concepts.concept])


def _topics(data: Prepared) -> dict[str, np.ndarray]:
    """Bits of the topics, uint64 [items, words], by what the names of their figures begin with.

    Raises UserError when a level has none.
    """
    l1, l2 = data.topic_bits("l1"), data.topic_bits("l2")
    if l1 is None or l2 is None:
        raise UserError(
            f"{data.info['path']} has no topics at both levels to judge by;"
            " name others with --data."
        )
    return {"": l2} if np.array_equal(l1, l2) else {"": l2, "l1_": l1}


def _pictured(data: Prepared) -> np.ndarray:
    return np.asarray(data.items["image_path"].is_valid().to_numpy())


def _write(
    name: str,
    start: str,
    results: dict[str, dict[str, Any]],
    concepts: Concepts,
    test: np.ndarray,
    seeds: int,
) -> None:
    tagged = np.unique(concepts.item)
    # Text is what every data set has, so the result's own figure is of that.
    text = results[start]["text"]
    images = "image" in results[start]
    details = {
        "metric": f"share of the {NEIGHBOURS} nearest held-out items that share an L2 topic,"
        " on held-out items",
        "value_where": start,
        "chance": text["before"]["chance"],
        "baseline": "principal components of the same frozen backbone",
        "seeds": list(range(seeds)),
        "held_out_items": int(test.sum()),
        "items_trained_on_or_stopped_by": int((~test[tagged]).sum()),
        "pairs_trained_on_or_stopped_by": int((~test[concepts.item]).sum()),
        "split": "by items: held out by the hash of the id, the same at every seed; a seeded tenth"
        " of the rest stops",
        "chosen_by": "tau 0.2, on another fifth of MovieLens (seeds 100 and 101), never on held-out"
        " items",
        "visual_backbone": VIT if images else None,
        "results": results,
    }
    after = text["after"]["match_at_10"]["mean"]
    write(
        f"content_{name}",
        after,
        "topic match at 10, text, trained",
        text["before"]["match_at_10"],
        details,
    )
    for tau, by_modality in results.items():
        for modalities, figures in by_modality.items():
            # The matches are enough for the screen; AUC and chance are in the file.
            for figure in [name for name in figures["before"] if name.endswith("match_at_10")]:
                after = figures["after"][figure]
                over = f"{after['mean']:.1%} [{after['min']:.1%}, {after['max']:.1%}]"
                print(
                    f"  {tau}, {modalities:15} {figure}:"
                    f" before {figures['before'][figure]:.1%}, after {over}"
                )
    print(f"  by chance {details['chance']:.1%}" + (f"; visual backbone: {VIT}" if images else ""))
