"""What contrastive training makes of the content encoder: topic match of the ten nearest, before and after.

MovieLens small (folder in MTMH_BENCH_DATA, default ../shared/data/movielens-small): titles, posters, keywords; topics
are the genres. Before = principal components of the frozen backbones; after = trained on the keywords, three seeds.

Held-out items are a fifth of those with keywords, genres and poster, by the hash of their id: the same at every seed,
and none of their keywords is trained on. Training stops by a third part, a seeded tenth of the other items with
keywords. Keywords with a genre's name among their words are left out. No image weights could be had where this was
written: the visual backbone is a small ViT with random weights, which sees colours and their layout, not what is shown.
"""

import hashlib
import os
import re
import statistics
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.result import write
from mtmh.config import ConceptSettings, ContentSettings, load_config
from mtmh.content.concepts import Concepts, read_concepts
from mtmh.content.encode import read_features
from mtmh.content.encoder import ContentEncoder
from mtmh.content.features import Backbones
from mtmh.content.projection import project_features
from mtmh.content.quality import NEIGHBOURS, area_under_curve, neighbour_match
from mtmh.content.train import train_tower, untrained_tower
from mtmh.data.prepare import prepare
from mtmh.data.prepared import Prepared
from mtmh.errors import UserError
from pipelines.arguments import layers

SEEDS = (0, 1, 2)
DEFAULT = "../shared/data/movielens-small"
MODALITIES: tuple[list[Literal["text", "image"]], ...] = (["text"], ["image"], ["text", "image"])
PARTS = 5  # the items fall into so many parts, and one is held out
VIT = "ViT of 4 layers, 192 wide, patches of 8, posters of 64 x 96: random weights (seed 0), trained on nothing"


def main() -> None:
    """Compare the encoder with itself before training, for each choice of modalities and both temperatures."""
    folder = Path(os.environ.get("MTMH_BENCH_DATA", DEFAULT))
    if not (folder / "posters.zip").is_file():
        raise UserError(f"no posters.zip in {folder}; name the folder of MovieLens with posters in MTMH_BENCH_DATA.")
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        settings = load_config(*layers(str(folder), "laptop", None))
        prepare(str(folder), work / "prepared", settings.data, seed=0)
        data = Prepared.load(work / "prepared")
        concepts = _without_genres(read_concepts(data), data)
        test = held_out(data, concepts)
        visual = random_vit(work / "vit")
        taus = (settings.content.concepts.tau, ConceptSettings().tau)
        found: dict[str, dict[str, Any]] = {f"tau starts at {tau}": {} for tau in taus}
        for modalities in MODALITIES:
            changes = {"visual_backbone": str(visual), "modalities": modalities}
            chosen = ContentSettings.model_validate({**settings.content.model_dump(), **changes})
            for tau, told in compare(data, chosen, concepts, test, taus, work / "cache").items():
                found[f"tau starts at {tau}"][" and ".join(modalities)] = told
    _write(found, concepts, test)


def compare(
    data: Prepared,
    settings: ContentSettings,
    concepts: Concepts,
    test: np.ndarray,
    taus: tuple[float, ...],
    cache: Path,
) -> dict[float, dict[str, Any]]:
    """For each temperature to start from: the figures of `judge` before, and over the seeds after."""
    device = torch.device("cpu")
    options = settings.model_dump(include={"max_tokens", "batch_size"})
    backbones = Backbones(settings.backbone, settings.visual_backbone, **options, device=device, cache=cache)
    features, _ = read_features(data, settings, backbones)
    assert features is not None
    names = backbones.texts(concepts.names)
    start = project_features(features, settings.dim)
    seen = concepts.of(features.known() & ~test)
    found = {}
    for tau in taus:
        chosen = settings.concepts.model_copy(update={"tau": tau})
        after = []
        for seed in SEEDS:
            tower = untrained_tower(features, start, settings.dim, chosen.hidden, seed)
            fitted = train_tower(tower, features, start, names, seen, chosen, seed, device)
            figures = judge(ContentEncoder(tower, backbones).infer(features), data, test)
            after.append({**figures, "best_epoch": fitted.best_epoch})
        before = judge(start.vectors, data, test)
        found[tau] = {
            "before": {name: round(value, 4) for name, value in before.items()},
            "after": {name: _spread([one[name] for one in after]) for name in after[0]},
        }
    return found


def held_out(data: Prepared, concepts: Concepts) -> np.ndarray:
    """Bool [items]: one in five of the items with keywords, genres and poster, by the hash of the id."""
    tagged = np.zeros(data.n_items, bool)
    tagged[concepts.item] = True
    whole = tagged & _genres(data).any(axis=1) & data.items["image_path"].is_valid().to_numpy()
    return np.asarray(whole & (part_of(data) == 0))


def part_of(data: Prepared) -> np.ndarray:
    """Int [items]: each item's part, 0 to 4, by its id alone."""
    ids = data.items["item_id"].to_pylist()
    return np.array([hashlib.sha256(one.encode()).digest()[0] for one in ids]) % PARTS


def judge(vectors: np.ndarray, data: Prepared, judged: np.ndarray) -> dict[str, float]:
    """Of the items `judged`: topic match of the ten nearest among each other and among all items; AUC of pairs."""
    bits, rows = _genres(data), np.flatnonzero(judged)
    every = np.flatnonzero(bits.any(axis=1) & vectors.any(axis=1))
    own, own_bits = vectors[rows], bits[rows]
    first, second = np.triu_indices(len(rows), 1)
    same = (own_bits[first] & own_bits[second]).any(axis=1)
    auc = area_under_curve(np.einsum("nd,nd->n", own[first], own[second]), same)
    assert auc is not None
    return {
        "match_at_10": neighbour_match(own, own_bits, np.arange(len(rows))),
        "match_at_10_among_all_items": neighbour_match(vectors[every], bits[every], np.searchsorted(every, rows)),
        "auc": auc,
        "chance": float(same.mean()),
    }


def random_vit(folder: Path) -> Path:
    """A small ViT with random weights, saved as a Hugging Face directory."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

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


def _genres(data: Prepared) -> np.ndarray:
    bits = data.topic_bits("l2")
    assert bits is not None
    return bits


def _without_genres(concepts: Concepts, data: Prepared) -> Concepts:
    """The pairs whose keyword has no genre's name among its words: "civil war" teaches "War"."""
    genres = "|".join(re.escape(name.lower()) for name in data.topic_names("l2"))
    clean = np.array([re.search(rf"\b({genres})\b", name) is None for name in concepts.names])
    return concepts.where(clean[concepts.concept])


def _spread(values: list[float]) -> dict[str, float]:
    return {"mean": round(statistics.mean(values), 4), "min": round(min(values), 4), "max": round(max(values), 4)}


def _write(found: dict[str, dict[str, Any]], concepts: Concepts, test: np.ndarray) -> None:
    tagged = np.unique(concepts.item)
    first = next(iter(found.values()))
    details = {
        "metric": f"share of the {NEIGHBOURS} nearest held-out items that share a genre, on held-out items",
        "chance": first["text"]["before"]["chance"],
        "baseline": "principal components of the same frozen backbone",
        "seeds": SEEDS,
        "held_out_items": int(test.sum()),
        "items_trained_on_or_stopped_by": int((~test[tagged]).sum()),
        "pairs_trained_on_or_stopped_by": int((~test[concepts.item]).sum()),
        "split": "by items: held out by the hash of the id, the same at every seed; a seeded tenth of the rest stops",
        "chosen_by": "the start of tau, on another fifth of the items (seeds 100 and 101), never on the held-out items",
        "visual_backbone": VIT,
        "results": found,
    }
    after = first["text"]["after"]["match_at_10"]["mean"]
    write("content", after, "topic match at 10, text, trained", first["text"]["before"]["match_at_10"], details)
    for start, results in found.items():
        for name, told in results.items():
            after = told["after"]["match_at_10"]
            spread = f"{after['mean']:.1%} [{after['min']:.1%}, {after['max']:.1%}]"
            print(f"  {start}, {name:15} before {told['before']['match_at_10']:.1%}, after {spread}")
    print(f"  by chance {details['chance']:.1%}; visual backbone: {VIT}")
