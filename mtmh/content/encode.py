"""Stage content: each item's title and text to one unit vector, the teacher of the relevance head (paper section 4)."""

import json
from pathlib import Path

import numpy as np

from mtmh.config import ContentSettings
from mtmh.content.backbone import identity, load_encoder
from mtmh.content.cache import encode_cached
from mtmh.data.prepared import Prepared


def encode(prepared: Path, out: Path, settings: ContentSettings, cache: Path) -> None:
    """Write `out/content.npy`, float32 [items, dim] unit rows, a zero row for an item without title and text.

    Topics never enter the text: relevance is measured on them. The backbone stays frozen and its vectors are cached
    under `cache` by content hash; the projection to `dim` is fitted on this catalog (see `project`).
    """
    items = Prepared.load(prepared).items
    texts = [
        ". ".join(part.strip() for part in (title, text) if part and part.strip())
        for title, text in zip(items["title"].to_pylist(), items["text"].to_pylist(), strict=True)
    ]
    present = np.array([bool(text) for text in texts])
    vectors = np.zeros((len(texts), settings.dim), dtype=np.float32)
    kept = 0.0
    if present.any():
        raw = encode_cached(
            [text for text in texts if text],
            identity(settings.backbone, settings.max_tokens),
            cache,
            lambda: load_encoder(settings.backbone, settings.max_tokens, settings.batch_size),
        )
        vectors[present], kept = project(raw, settings.dim)
    np.save(out / "content.npy", vectors)
    figures = {
        "items": len(texts),
        "with_text": int(present.sum()),
        "dim": settings.dim,
        "variance_kept": round(kept, 4),
    }
    (out / "content.json").write_text(json.dumps(figures))
    print(f"content: {figures['with_text']:,} of {len(texts):,} items have text; {kept:.0%} of the variance kept")


def project(raw: np.ndarray, dim: int) -> tuple[np.ndarray, float]:
    """Principal components: float32 [n, width] -> float32 [n, dim] unit rows, and the share of variance kept.

    Centring removes what all texts share, so that cosines spread out around 0 for unrelated items. The sign of each
    component is fixed, so that every machine gives the same vectors. Missing components (dim > rank) are zeros.
    """
    centred = raw.astype(np.float64) - raw.mean(axis=0, dtype=np.float64)
    values, components = np.linalg.eigh(centred.T @ centred)
    components = components[:, ::-1][:, :dim]
    components *= np.sign(components[np.abs(components).argmax(axis=0), np.arange(components.shape[1])])
    projected = np.zeros((len(raw), dim))
    projected[:, : components.shape[1]] = centred @ components
    length = np.linalg.norm(projected, axis=1, keepdims=True)
    total = max(float(values.sum()), 1e-12)
    # One lone text lies on the mean: it keeps a zero row, like an item without text.
    unit = np.divide(projected, length, out=np.zeros_like(projected), where=length > 1e-9)
    return unit.astype(np.float32), float(values[::-1][:dim].sum()) / total
