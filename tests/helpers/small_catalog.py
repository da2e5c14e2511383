"""A small catalog with titles, images and concepts of four subjects, as a user would bring it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from mtmh.data.files import write_parquet

SUBJECTS = {
    "food": (
        ["bread", "pizza", "soup", "cake", "cheese"],
        ["baking", "cooking", "dinner"],
        (200, 40, 40),
    ),
    "cars": (
        ["engine", "truck", "tires", "brakes", "diesel"],
        ["driving", "garage", "racing"],
        (40, 200, 40),
    ),
    "music": (
        ["guitar", "piano", "drums", "violin", "trumpet"],
        ["concert", "band", "orchestra"],
        (40, 40, 200),
    ),
    "garden": (
        ["roses", "tulips", "compost", "hedge", "lawn"],
        ["plants", "growing", "flowers"],
        (200, 200, 40),
    ),
}
EACH = 20  # items of a subject; of these:
NO_TEXT, NO_IMAGE, NEITHER, CORRUPT = 4, 5, 6, 7
MakeCatalog = Callable[..., Path]


def subject_of(item: int) -> int:
    return item // EACH


def write_catalog(folder: Path, concepts: bool, images: bool, items: int) -> None:
    rng = np.random.default_rng(0)
    names = list(SUBJECTS)
    ids = [f"i{number:02d}" for number in range(items)]
    rows = []
    for number in range(items):
        words, tags, colour = SUBJECTS[names[subject_of(number)]]
        missing = number % EACH
        title = "" if missing in (NO_TEXT, NEITHER) else " and ".join(rng.permutation(words)[:2])
        path = None if missing in (NO_IMAGE, NEITHER) or not images else f"images/{number}.png"
        rows.append((title, path, rng.permutation(tags)[:2].tolist()))
        if path:
            (folder / "images").mkdir(parents=True, exist_ok=True)
            noise = rng.integers(-30, 30, (12, 10, 3))
            Image.fromarray((np.array(colour) + noise).astype(np.uint8)).save(folder / path)
            if missing == CORRUPT:
                (folder / path).write_bytes((folder / path).read_bytes()[:60])
    titles, paths, tags = zip(*rows, strict=True)
    catalog = {
        "item_id": ids,
        "title": titles,
        "image_path": pa.array(paths, pa.string()),
        "l2_topics": [[names[subject_of(number)]] for number in range(items)],
    }
    write_parquet(pa.table(catalog), folder / "items.parquet")
    if concepts:
        pairs = [
            (one, tag, "query", 1.0 + place)
            for one, two in zip(ids, tags, strict=True)
            for place, tag in enumerate(two)
        ]
        pairs += [(ids[0], "Cars ", "hashtag", 1.0)]  # the name of a topic
        columns = dict(
            zip(("item_id", "concept", "source", "weight"), zip(*pairs, strict=True), strict=True)
        )
        write_parquet(
            pa.table({name: list(values) for name, values in columns.items()}),
            folder / "concepts.parquet",
        )
    event = np.arange(400)
    time = np.datetime64("2024-01-01", "us") + event.astype("timedelta64[h]")
    log = {
        "user_id": [f"u{number % 7}" for number in event],
        "item_id": [ids[number] for number in rng.integers(items, size=len(event))],
        "timestamp": pa.array(time).cast(pa.timestamp("us", tz="UTC")),
    }
    write_parquet(pa.table(log), folder / "interactions.parquet")
