"""Stage content: each item's title, text and image to one vector, the relevance head's teacher
(paper section 4).
"""

from pathlib import Path
from typing import Any

import numpy as np

from mtmh.config import ContentSettings
from mtmh.content.concepts import concepts_to_train
from mtmh.content.contrastive import train_tower, untrained_tower
from mtmh.content.encoder import ContentEncoder
from mtmh.content.features import Backbones, ContentFeatures
from mtmh.content.projection import project_features
from mtmh.content.quality import content_quality, judge
from mtmh.data.files import write_json
from mtmh.data.prepared import Prepared
from mtmh.device import pick_device
from mtmh.errors import UserError
from mtmh.object_store import as_folder


def encode(prepared: Path, out: Path, settings: ContentSettings, cache: Path, seed: int) -> None:
    """Write `out/content.npy`, float32 [items, dim] unit rows, a zero row for an item without text
    and image.

    With concepts, a content tower is trained on them; without, the vectors are principal components
    of the frozen backbones'. Either is kept as content_encoder.safetensors and content_encoder.json
    (see `ContentEncoder`), and content.json holds the figures. Topics never enter: relevance is
    measured on them. The backbones stay frozen, and their vectors are cached under `cache` by
    content hash. Raises UserError when the device or a backbone is not there, no image can be read,
    or the quality check stops the run.
    """
    data = Prepared.load(prepared)
    device = pick_device(settings.device, "content.device")
    options = settings.model_dump(include={"max_tokens", "batch_size"})
    backbones = Backbones(
        settings.backbone, settings.visual_backbone, **options, device=device, cache=cache
    )
    # Each modality by its frozen backbone, from the cache where it was read before.
    features, figures = read_features(data, settings, backbones)
    # Zeros stay where no item has text or image; there is no encoder then either.
    vectors = np.zeros((data.n_items, settings.dim), np.float32)
    if features is not None:
        encoder, vectors, learned = fit_encoder(data, features, backbones, settings, seed)
        encoder.save(out)
        figures |= learned
    np.save(out / "content.npy", vectors)
    # Topics come in only now, to judge what was made without them.
    figures["quality"] = judge(
        content_quality(vectors, data, seed), settings.quality.min_auc, settings.quality.below
    )
    write_json(figures, out / "content.json")


def item_text(title: str | None, text: str | None) -> str:
    """What the text backbone reads of an item."""
    return ". ".join(part.strip() for part in (title, text) if part and part.strip())


def read_features(
    data: Prepared, settings: ContentSettings, backbones: Backbones
) -> tuple[ContentFeatures | None, dict[str, Any]]:
    """The vectors of the modalities that any item has (None when there are none), and how many
    items have which.
    """
    parts: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    figures: dict[str, Any] = {"items": data.n_items, "dim": settings.dim}
    if "text" in settings.modalities:
        titles, texts = data.items["title"].to_pylist(), data.items["text"].to_pylist()
        parts["text"] = backbones.texts_if_any(list(map(item_text, titles, texts)))
        figures["with_text"] = int(parts["text"][1].sum())
    paths = data.items["image_path"].to_pylist()
    if "image" in settings.modalities and _reads_images(paths, settings):
        with as_folder(data.info["path"]) as folder:
            images = backbones.images(paths, folder)
        images.print_unreadable()
        if not images.present.any():
            raise UserError(
                f"content.visual_backbone is set, but none of the {len(images.unreadable):,} images"
                f" can be read. A path in image_path is relative to {data.info['path']}; put the"
                " images there, or write content.visual_backbone=null."
            )
        parts["image"] = (images.vectors, images.present)
        figures |= {
            "with_image": int(images.present.sum()),
            "unreadable_images": len(images.unreadable),
        }
    widths = {name: vectors.shape[1] for name, (vectors, present) in parts.items() if present.any()}
    features = ContentFeatures.join(parts, widths) if widths else None
    figures["without_content"] = int((~features.has_content()).sum()) if features else data.n_items
    # How many items have what, for people.
    counts = {"text": figures.get("with_text"), "an image": figures.get("with_image")}
    have = [f"{count:,} have {what}" for what, count in counts.items() if count is not None]
    left = figures["without_content"]
    nothing = f"; {left:,} have nothing to encode and get a zero vector" if left else ""
    print(
        f"content: of {data.n_items:,} items {', '.join(have) or 'none is read'}{nothing}",
        flush=True,
    )
    return features, figures


def fit_encoder(
    data: Prepared,
    features: ContentFeatures,
    backbones: Backbones,
    settings: ContentSettings,
    seed: int,
) -> tuple[ContentEncoder, np.ndarray, dict[str, Any]]:
    """The encoder, its vectors of all items, float32 [items, dim], and figures of how it came
    about.
    """
    start = project_features(features, settings.dim)
    tower = untrained_tower(features, start, settings.dim, settings.concepts.hidden, seed)
    encoder = ContentEncoder(tower, backbones)
    variance = round(start.explained_variance, 4)
    figures: dict[str, Any] = {"variance_kept": variance, "trained": False}
    concepts = concepts_to_train(data, features.has_content(), settings.concepts)
    # Without concepts, the projection is all there is.
    if concepts is None:
        print(
            f"content: principal components keep {start.explained_variance:.0%} of the variance",
            flush=True,
        )
        return encoder, start.vectors, figures
    names = backbones.texts(concepts.names)
    fitted = train_tower(
        tower, features, start, names, concepts, settings.concepts, seed, backbones.device
    )
    # How the training went, for people and for content.json.
    first, best = fitted.curve[0], fitted.curve[fitted.best_epoch]
    items = len(np.unique(concepts.item))
    print(
        f"content: trained on {len(concepts.item):,} pairs of {items:,} items and"
        f" {len(concepts.names):,} concepts; held-out loss {first['held_out_loss']:.3f} at the"
        f" start, {best['held_out_loss']:.3f} after epoch {fitted.best_epoch} of"
        f" {len(fitted.curve) - 1}, whose weights are kept; tau {best['tau']:.3f}",
        flush=True,
    )
    counts = {"pairs": len(concepts.item), "items": items, "names": len(concepts.names)}
    rows = {"rows": concepts.sources, "left_out_as_topics": concepts.topic_rows}
    figures |= {
        "trained": True,
        "concepts": {**counts, **rows},
        "best_epoch": fitted.best_epoch,
        "masked_share": round(fitted.masked_share, 4),
        "curve": fitted.curve,
    }
    return encoder, encoder.infer(features), figures


def _reads_images(paths: list[str | None], settings: ContentSettings) -> bool:
    if settings.visual_backbone is None:
        # Images alone, and nothing to read them with: every vector would be zero.
        if "text" not in settings.modalities:
            raise UserError(
                "content.modalities is [image], but there is no content.visual_backbone: name a"
                " directory or hub id."
            )
        return False
    # No reason to stop: a setting serves many catalogs, and not all have images.
    if not any(paths):
        print(
            "content: content.visual_backbone is set, but no item has an image_path: no images are"
            " read",
            flush=True,
        )
        return False
    return True
