"""What the encoder reads of an item: the frozen backbones' vectors of its text and of its image,
cached by content.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mtmh.content.backbones import Vision, identity, load_encoder, load_vision
from mtmh.content.cache import encode_cached
from mtmh.content.images import ImageVectors, encode_images
from mtmh.errors import UserError


@dataclass(frozen=True)
class ContentFeatures:
    """Vectors of the modalities of some items, next to each other."""

    vectors: np.ndarray  # float32 [items, total]; zeros where a modality is absent
    present: np.ndarray  # bool [items, modalities]
    widths: dict[str, int]  # modality -> width; their sum is the total

    @classmethod
    def join(
        cls, parts: dict[str, tuple[np.ndarray, np.ndarray]], widths: dict[str, int]
    ) -> "ContentFeatures":
        """From each modality's vectors, float32 [items that have it, width], and which items do,
        bool [items].
        """
        present = np.column_stack([parts[name][1] for name in widths])
        vectors = np.zeros((len(present), sum(widths.values())), np.float32)
        for name, (start, end) in zip(
            widths, pairwise(np.cumsum([0, *widths.values()])), strict=True
        ):
            vectors[parts[name][1], start:end] = parts[name][0].reshape(-1, widths[name])
        return cls(vectors, present, dict(widths))

    def blocks(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Of each modality the vectors, float32 [items, width], and which items have it, bool
        [items].
        """
        for number, (start, end) in enumerate(pairwise(np.cumsum([0, *self.widths.values()]))):
            yield self.vectors[:, start:end], self.present[:, number]

    def has_content(self) -> np.ndarray:
        """Bool [items]: the item has at least one modality."""
        return np.asarray(self.present.any(axis=1))

    def filled(self) -> np.ndarray:
        """Bool [items, total]: which columns of `vectors` are of a modality that the item has."""
        return np.repeat(self.present, list(self.widths.values()), axis=1)


@dataclass(frozen=True)
class Backbones:
    """The frozen backbones and how they are run; each is loaded when the first vector is missing in
    the cache.

    `text` and `image` are names as in the settings (content.backbone, content.visual_backbone).
    """

    text: str
    image: str | None
    max_tokens: int
    batch_size: int
    device: torch.device
    cache: Path | None = None

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Float32 [len(texts), width], unit rows; at least one text, none of them empty."""
        return encode_cached(texts, self.text_identity, self.cache, lambda: self._text)

    def texts_if_any(self, texts: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
        """Vectors of the texts that say something, float32 [some, width], and which do, bool
        [len(texts)].
        """
        some = [text for text in texts if text and text.strip()]
        present = np.array(
            [text is not None and text.strip() != "" for text in texts], dtype=np.bool_
        )
        return self.texts(some) if some else np.zeros((0, 0), np.float32), present

    def images(self, paths: Sequence[str | None], root: Path) -> ImageVectors:
        """Vectors of the images that can be read; paths relative to `root`, None = no image."""
        cache = None if self.cache is None else self.cache / "images"
        return encode_images(
            paths, root, self.image_identity, cache, lambda: self._vision, self.batch_size
        )

    def card(self, modalities: Iterable[str]) -> dict[str, Any]:
        """All that is needed to find and check the backbones of `modalities` again."""
        settings = ("text", "image", "max_tokens", "batch_size")
        identities = {name: getattr(self, f"{name}_identity") for name in modalities}
        return {**{name: getattr(self, name) for name in settings}, "identity": identities}

    @classmethod
    def from_card(
        cls, card: dict[str, Any], device: torch.device, cache: Path | None
    ) -> "Backbones":
        """What `card` describes. Raises UserError when a backbone is not the one that it was."""
        settings = {name: card[name] for name in ("text", "image", "max_tokens", "batch_size")}
        backbones = cls(**settings, device=device, cache=cache)
        for name, identity_then in card["identity"].items():
            if getattr(backbones, f"{name}_identity") != identity_then:
                raise UserError(
                    f"the {name} backbone {card[name]!r} is not there, or not the one this content"
                    " encoder was made with: vectors of another would mean nothing to it. Bring the"
                    " old one back to that place."
                )
        return backbones

    @cached_property
    def text_identity(self) -> str:
        return identity(self.text, self.max_tokens)

    @cached_property
    def image_identity(self) -> str:
        return identity(self.image or "", "image")

    @cached_property
    def _text(self) -> Callable[[Sequence[str]], np.ndarray]:
        return load_encoder(self.text, self.max_tokens, self.batch_size, self.device)

    @cached_property
    def _vision(self) -> Vision:
        return load_vision(self.image or "", self.device)
