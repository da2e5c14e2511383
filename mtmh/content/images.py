"""Images to vectors of the frozen visual backbone: decoded by threads ahead of the model, cached by
content.
"""

import hashlib
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from mtmh.clock import Progress
from mtmh.content.backbones import Vision
from mtmh.content.cache import SHARD, note_use, read_shards, write_shard
from mtmh.data.images import open_images

THREADS = min(os.cpu_count() or 1, 8)
Result = TypeVar("Result")
Outcome = tuple[Result | None, str]  # the result, or None and the reason


@dataclass(frozen=True)
class ImageVectors:
    """What came of the images of some items."""

    vectors: np.ndarray  # float32 [readable, width], unit rows
    present: np.ndarray  # bool [items]; False = no path, or an image that cannot be read
    unreadable: dict[str, str]  # path -> reason

    def print_unreadable(self) -> None:
        """Print how many images could not be read, for each reason with an example."""
        if not self.unreadable:
            return
        # What stands before the colon is the kind; behind it are the words of one image.
        kinds = Counter(reason.partition(":")[0] for reason in self.unreadable.values())
        examples = {
            reason.partition(":")[0]: f"{path}: {reason}"
            for path, reason in self.unreadable.items()
        }
        # The commonest first: it is most likely the one mistake behind all.
        reasons = "; ".join(
            f"{count:,} {kind}, e.g. {examples[kind]}" for kind, count in kinds.most_common()
        )
        print(
            f"content: {len(self.unreadable):,} images cannot be read and count as absent:"
            f" {reasons}",
            flush=True,
        )


def encode_images(
    paths: Sequence[str | None],
    root: Path,
    identity: str,
    cache: Path | None,
    load: Callable[[], Vision],
    batch_size: int,
) -> ImageVectors:
    """Vectors of the images at `paths` (None or "": no image), relative to `root`, or members of a
    zip archive there.

    Each image is named by the hash of its file's content and of `identity` (all else a vector
    depends on), and only those that `cache` has not are decoded. `load` gives the backbone and is
    called only when something is missing. At most two batches of pixels wait for the model. An
    image that cannot be read counts as absent, and is printed.
    """
    named = sorted({path for path in paths if path})
    unreadable: dict[str, str] = {}
    with open_images(root) as read, ThreadPoolExecutor(THREADS) as pool:
        # Name each image by its content, to see which vectors are missing.
        def key_of_image(path: str) -> str:
            content = hashlib.sha256(read(path)).digest()
            return hashlib.sha256(identity.encode() + b"\0" + content).hexdigest()

        key_of = {}
        keys = _ahead(pool, partial(_attempt, key_of_image), named, 64)
        for path, (key, reason) in zip(named, keys, strict=True):
            if key is None:
                unreadable[path] = reason
            else:
                key_of[path] = key
        vectors = read_shards(cache, set(key_of.values()))
        missing = {key: path for path, key in key_of.items() if key not in vectors}
        if missing:
            vision = load()
            pixels_of = partial(_attempt, lambda path: vision.to_pixels(decode(read(path))))
            outcomes = _ahead(pool, pixels_of, missing.values(), 2 * batch_size)
            pixels = zip(missing, outcomes, strict=True)
            new, broken = _encode(pixels, len(missing), vision, batch_size, cache)
            vectors |= new
            unreadable |= {path: broken[key] for path, key in key_of.items() if key in broken}
    note_use(cache, key_of.values())
    # One row for each item whose image could be read.
    rows = [vectors.get(key_of.get(path or "", "")) for path in paths]
    present = np.array([row is not None for row in rows], dtype=bool)
    readable = [row for row in rows if row is not None]
    stacked = np.stack(readable) if readable else np.zeros((0, 0), np.float32)
    return ImageVectors(stacked, present, unreadable)


def _encode(
    outcomes: Iterable[tuple[str, Outcome[np.ndarray]]],
    total: int,
    vision: Vision,
    batch_size: int,
    cache: Path | None,
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The vectors of the pixels as they come, by key; and the reasons of those that did not."""
    vectors: dict[str, np.ndarray] = {}
    broken: dict[str, str] = {}
    waiting: dict[str, np.ndarray] = {}  # pixels
    unsaved: list[str] = []
    progress = Progress("content", total, "images")

    def save() -> None:
        if unsaved:
            write_shard(cache, unsaved, np.stack([vectors[key] for key in unsaved]))
            unsaved.clear()

    # A batch goes to the model when it is full, a shard to the cache: a killed run loses one shard.
    for number, (key, (pixels, reason)) in enumerate(outcomes, start=1):
        if pixels is None:
            broken[key] = reason
        else:
            waiting[key] = pixels
        if waiting and (len(waiting) == batch_size or number == total):
            vectors |= zip(waiting, vision.encode(list(waiting.values())), strict=True)
            unsaved += waiting
            waiting = {}
        if len(unsaved) >= SHARD:
            save()
        progress.advance(1)
    save()
    return vectors, broken


def decode(content: bytes) -> Image.Image:
    """An image file's content as an RGB image; the first frame, where there are more."""
    with Image.open(BytesIO(content)) as image:
        return image.convert("RGB")


def _attempt(work: Callable[[str], Result], path: str) -> Outcome[Result]:
    try:
        return work(path), ""
    except FileNotFoundError:
        return None, "no such file"
    except UnidentifiedImageError:
        return None, "not an image"
    except (
        Exception
    ) as error:  # a file can be broken in as many ways as there are formats; each is counted
        return None, f"broken: {str(error) or type(error).__name__}"


def _ahead(
    pool: ThreadPoolExecutor,
    work: Callable[[str], Outcome[Result]],
    paths: Iterable[str],
    most: int,
) -> Iterator[Outcome[Result]]:
    """The outcomes of `work`, in order, with at most `most` of them done or under way before they
    are asked for.
    """
    waiting: deque[Future[Outcome[Result]]] = deque()
    for path in paths:
        waiting.append(pool.submit(work, path))
        if len(waiting) >= most:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
