"""Where the sampler's pairs come from: arrays in memory, or a Parquet file read in shuffled
windows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

WINDOW = 1 << 24  # pairs in memory at a time: 16 bytes each, twice while they are shuffled
ROW_GROUP = 1 << 18  # pairs a row group of the file


@dataclass(frozen=True)
class Pairs:
    """Pairs in memory, a row each."""

    user: np.ndarray  # int32
    trigger: np.ndarray  # int32
    candidate: np.ndarray  # int32
    weight: np.ndarray  # float32

    def __len__(self) -> int:
        return len(self.trigger)

    def take(self, rows: np.ndarray | slice) -> "Pairs":
        """The pairs at `rows`."""
        return Pairs(*(getattr(self, field.name)[rows] for field in fields(self)))

    def counts(self, n_items: int) -> tuple[np.ndarray, np.ndarray]:
        """How many pairs each item is the trigger and the candidate of, int64 [items] each."""
        return np.bincount(self.trigger, minlength=n_items), np.bincount(
            self.candidate, minlength=n_items
        )

    def shuffled(self, rng: np.random.Generator) -> Iterator["Pairs"]:
        """All pairs in the order that `rng` gives, here in one block."""
        yield self.take(rng.permutation(len(self)))


class PairFile:
    """The pairs of a Parquet file; `window` bounds how many are in memory.

    The same methods as `Pairs`.

    A file that fits into the window gives what its pairs in memory would. Of a larger one, row
    groups are read in shuffled order and shuffled together a window at a time: with many groups a
    window (64 at the defaults) a batch is still drawn from all over the file.
    """

    def __init__(self, path: Path, window: int = WINDOW) -> None:
        self.file, self.window = pq.ParquetFile(path), window

    def __len__(self) -> int:
        return int(self.file.metadata.num_rows)

    def counts(self, n_items: int) -> tuple[np.ndarray, np.ndarray]:
        """As `Pairs.counts`, a row group at a time."""
        trigger, candidate = np.zeros(n_items, np.int64), np.zeros(n_items, np.int64)
        for group in range(self.file.num_row_groups):
            as_trigger, as_candidate = self._read([group]).counts(n_items)
            trigger += as_trigger
            candidate += as_candidate
        return trigger, candidate

    def shuffled(self, rng: np.random.Generator) -> Iterator[Pairs]:
        """All pairs in the order that `rng` gives; a block is at most a window and a row group."""
        for groups in self._windows(rng):
            yield from self._read(groups).shuffled(rng)

    def _windows(self, rng: np.random.Generator) -> Iterator[list[int]]:
        """Row groups that are read together."""
        order = np.arange(self.file.num_row_groups)
        if len(self) > self.window:
            rng.shuffle(order)
        groups: list[int] = []
        rows = 0
        for group in order.tolist():
            groups.append(group)
            rows += self.file.metadata.row_group(group).num_rows
            if rows >= self.window:
                yield groups
                groups, rows = [], 0
        if groups:
            yield groups

    def _read(self, groups: list[int]) -> Pairs:
        table = self.file.read_row_groups(groups, columns=[field.name for field in fields(Pairs)])
        return Pairs(*(column.to_numpy() for column in table.columns))


def joined(blocks: list[Pairs]) -> Pairs:
    """One block of several."""
    columns = zip(*(vars(block).values() for block in blocks), strict=True)
    return Pairs(*(np.concatenate(parts) for parts in columns))


def write_blocks(path: Path, blocks: Iterator[Pairs]) -> int:
    """Write pairs as they come, ROW_GROUP a row group at most; returns how many there were."""
    schema = pa.schema(
        {"user": pa.int32(), "trigger": pa.int32(), "candidate": pa.int32(), "weight": pa.float32()}
    )
    written = 0
    with pq.ParquetWriter(path, schema) as file:
        for block in blocks:
            columns = [pa.array(getattr(block, name)) for name in schema.names]
            file.write_table(pa.table(columns, schema=schema), row_group_size=ROW_GROUP)
            written += len(block)
    return written
