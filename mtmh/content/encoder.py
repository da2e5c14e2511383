"""The frozen content encoder: backbones and content tower, kept beside content.npy so that new items can be encoded."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from mtmh.content.features import Backbones, Features
from mtmh.content.towers import Tower
from mtmh.device import pick_device
from mtmh.errors import UserError

WEIGHTS, CARD = "content_encoder.safetensors", "content_encoder.json"
ROWS_AT_ONCE = 8192


@dataclass(frozen=True)
class ContentEncoder:
    """Texts and images to vectors in the space of content.npy.

    >>> ContentEncoder.load(Path("runs/latest/retriever")).encode(["Toy Story (1995)"]).shape  # doctest: +SKIP
    (1, 128)
    """

    tower: Tower
    backbones: Backbones

    def encode(
        self,
        texts: Sequence[str | None],
        images: Sequence[str | None] | None = None,
        root: Path = Path(),
    ) -> np.ndarray:
        """Float32 [len(texts), dim], unit rows; a zero row for an item with neither text nor image.

        Arguments: `texts` as `item_text` joins title and text, None or "" where there is none; `images` paths relative
        to `root` (files, or members of a zip archive: "posters.zip/7.jpg"), None where there is none. An image that
        cannot be read counts as absent, and is printed. Raises UserError when images are given to an encoder without a
        visual backbone, or the lists differ in length.
        """
        images = [None] * len(texts) if images is None else images
        if len(images) != len(texts):
            raise UserError(
                f"{len(texts)} texts and {len(images)} images: give as many, None where there is none."
            )
        if any(images) and "image" not in self.tower.widths:
            raise UserError("this content encoder was made without images: leave them out.")
        parts: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        if "text" in self.tower.widths:
            parts["text"] = self.backbones.texts_if_any(texts)
        if "image" in self.tower.widths:
            found = self.backbones.images(images, root)
            found.tell()
            parts["image"] = (found.vectors, found.present)
        return self.infer(Features.join(parts, self.tower.widths))

    @torch.inference_mode()
    def infer(self, features: Features) -> np.ndarray:
        """The tower alone: float32 [items, dim], unit rows; a zero row for an item without any modality."""
        tower = self.tower.to(self.backbones.device).eval()
        columns = (
            torch.from_numpy(part).split(ROWS_AT_ONCE)
            for part in (features.vectors, features.present)
        )
        rows = [
            tower(*(part.to(self.backbones.device) for part in chunk)).cpu()
            for chunk in zip(*columns, strict=True)
        ]
        vectors = torch.cat(rows).numpy()
        vectors[~features.known()] = 0
        return vectors

    def save(self, folder: Path) -> None:
        """Write content_encoder.safetensors and content_encoder.json."""
        weights = {
            name: tensor.contiguous().cpu() for name, tensor in self.tower.state_dict().items()
        }
        save_file(weights, folder / WEIGHTS)
        (folder / WEIGHTS).chmod(0o644)  # safetensors lets the owner alone read it
        card = {
            "tower": self.tower.architecture(),
            "backbones": self.backbones.card(self.tower.widths),
        }
        (folder / CARD).write_text(json.dumps(card, indent=1))

    @classmethod
    def load(
        cls, folder: Path | str, device: str = "auto", cache: Path | None = None
    ) -> "ContentEncoder":
        """Read what `save` wrote; `cache` is a folder of backbone vectors to read from and add to, or None.

        Raises UserError when there is no encoder in `folder`, or a backbone is no longer the one it was trained with.
        """
        folder = Path(folder)
        if not (folder / CARD).is_file():
            raise UserError(
                f"{folder} holds no {CARD}: give the content stage's directory or a retriever directory."
            )
        card = json.loads((folder / CARD).read_text())
        tower = Tower(**card["tower"])
        tower.load_state_dict(load_file(folder / WEIGHTS))
        chosen = pick_device(device, "device")
        return cls(tower.eval(), Backbones.from_card(card["backbones"], chosen, cache))
