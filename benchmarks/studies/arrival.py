"""The training data of T1 in two parts: without the items that are new in it, and with them."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from feature_repo.stage import build_features
from mtmh.config import Config, TrainSettings
from mtmh.content.encode import encode
from mtmh.data.pair_source import Pairs
from mtmh.data.pairs import write_pairs
from mtmh.data.prepare import prepare
from mtmh.data.prepared import Prepared
from mtmh.data.sampler import Batch, PairSampler
from mtmh.errors import UserError
from mtmh.model.catalog import Catalog
from mtmh.ragged import Ragged

LATE = 0.2  # share of T1's events by whose begin an item must not have been seen to be new


@dataclass(frozen=True)
class Arrival:
    """The training data of T1 with the items renumbered: old ones first, then the new, then those
    that T1 lacks."""

    catalog: Catalog
    content: torch.Tensor  # float32 [items, c]
    pairs: Pairs
    history: Ragged
    old: int  # items that are not new
    in_train: int  # items of T1

    @classmethod
    def of(cls, prepared: Path, features: Path, content: Path, pairs: Path) -> "Arrival":
        """From the directories of the stages. Raises UserError where no item is new."""
        data = Prepared.load(prepared)
        # By their events, which stand in time order: 0 = old, 1 = new, 2 = not in T1.
        item = data.item[data.is_train]
        count = np.bincount(item, minlength=data.n_items)
        early = np.bincount(item[: round((1 - LATE) * len(item))], minlength=data.n_items)
        kind = np.where(early > 0, 0, np.where(count > 0, 1, 2))
        old, in_train = int((kind == 0).sum()), int((kind <= 1).sum())
        if old == in_train:
            raise UserError(
                f"no item of {data.info['path']} is first engaged with"
                f" in the last {LATE:.0%} of T1."
            )
        # Renumbered so that a smaller number of items is the world before the arrival.
        order = np.argsort(kind, kind="stable")
        new_row = np.argsort(order).astype(np.int32)
        catalog = Catalog.load(data, features)
        table = pq.read_table(pairs / "pairs.parquet")
        history = data.train_histories()
        return cls(
            catalog=Catalog(
                catalog.ids[order], catalog.floats[order], catalog.vocabularies, catalog.float_names
            ),
            content=torch.from_numpy(np.load(content / "content.npy")[order]),
            pairs=Pairs(
                table["user"].to_numpy(),
                new_row[table["trigger"].to_numpy()],
                new_row[table["candidate"].to_numpy()],
                table["weight"].to_numpy(),
            ),
            history=Ragged(history.indptr, new_row[history.values]),
            old=old,
            in_train=in_train,
        )

    def batches(self, settings: TrainSettings, seed: int, arrived: bool) -> Iterator[Batch]:
        """One epoch without the new items, or epochs without end over all of T1."""
        items = self.in_train if arrived else self.old
        in_range = np.maximum(self.pairs.trigger, self.pairs.candidate) < items
        sampler = PairSampler(
            self.pairs.take(in_range),
            history=self.history.where(self.history.values < items),
            n_items=items,
            batch_size=settings.batch_size,
            uniform_negatives=settings.uniform_negatives,
            seed=seed,
        )
        for epoch in itertools.count() if arrived else [0]:
            yield from sampler.epoch(epoch)


def run_stages(folder: str, work: Path, config: Config) -> tuple[Path, Path, Path, Path]:
    """Run the stages before training; their directories: prepared, features, content, pairs."""
    prepared, features, content, pairs = (
        work / name for name in ("prepared", "features", "content", "pairs")
    )
    for stage in (prepared, features, content, pairs):
        stage.mkdir()
    prepare(folder, prepared, config.data, config.seed)
    encode(prepared, content, config.content, work / "cache", config.seed)
    build_features(prepared, features, config.data)
    write_pairs(prepared, content, pairs, config.pairs)
    return prepared, features, content, pairs
