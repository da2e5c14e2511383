"""The catalog as the model reads it: numbers for id features, columns of floats."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch
from torch import Tensor

from mtmh.data.contract import STATISTICS
from mtmh.data.prepared import Prepared
from mtmh.ids import Ids


@dataclass(frozen=True)
class Catalog:
    """Features of all items, row = item; the first id feature is the item itself."""

    ids: Tensor  # int64 [items, id features], 0 = unknown
    floats: Tensor  # float32 [items, float features]
    vocabularies: dict[str, list[str]]  # id feature -> values in T1, number = position + 1
    float_names: list[str]

    @classmethod
    def load(cls, data: Prepared, features: Path) -> "Catalog":
        """Number the ids of items that T1 engaged with; an id that only later
        items have is 0, unknown.
        """
        columns, vocabularies = [], {}
        for name in ["item_id", *data.info["id_features"]]:
            column = data.items[name].combine_chunks()
            # Sorted, so that a number does not depend on the order of the rows.
            values = pc.unique(column.filter(pa.array(data.in_train))).drop_null()
            values = values.take(pc.sort_indices(values))
            if len(values):
                vocabularies[name] = values.to_pylist()
                columns.append(number_ids(column, vocabularies[name]))
        table = pq.read_table(features / "item_features.parquet")
        floats = np.zeros((data.n_items, table.num_columns), np.float32)
        for position, column in enumerate(table.columns):
            floats[:, position] = column.to_numpy()
        ids = torch.from_numpy(np.column_stack(columns))
        return cls(ids, torch.from_numpy(floats), vocabularies, table.column_names)

    def drop_ids(self, ids: Tensor, floats: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Id dropout: the items at `rows` of a batch as cold ones, without id, events and age.

        It trains row 0 of the item table, and the side features, for the items that come later.
        `ids` int64 [n, id features] and `floats` float32 [n, float features] are changed, and
        returned.
        """
        ids[rows, 0] = 0
        for position, name in enumerate(self.float_names):
            if name in STATISTICS:
                floats[rows, position] = 0.0
        return ids, floats

    def architecture(
        self, embedding_dim: int, hidden: list[int], out_dim: int, heads: tuple[str, ...]
    ) -> dict[str, Any]:
        """Arguments of TwoHeads that fit this catalog, ready for model.json; side
        features get half the width.
        """
        sizes = [len(values) + 1 for values in self.vocabularies.values()]
        mean, deviation = moments(self.floats)
        return {
            "vocabularies": sizes,
            "dims": [embedding_dim] + [max(embedding_dim // 2, 1)] * (len(sizes) - 1),
            "mean": mean,
            "deviation": deviation,
            "hidden": hidden,
            "out_dim": out_dim,
            "heads": list(heads),
        }


def moments(floats: Tensor) -> tuple[list[float], list[float]]:
    """Mean and deviation of each column of float32 [items, float features],
    finite; 1 where it is constant.
    """
    if not floats.shape[1]:
        return [], []  # torch warns of empty columns
    mean, deviation = floats.mean(dim=0), floats.std(dim=0, correction=0)
    # In double precision only where needed: it is twice the memory.
    if not (
        mean.isfinite() & deviation.isfinite()
    ).all():  # squares of large numbers are past float32
        mean, deviation = floats.double().mean(dim=0), floats.double().std(dim=0, correction=0)
    varies = (floats.amax(dim=0) > floats.amin(dim=0)) & (deviation > 0)
    return mean.tolist(), torch.where(varies, deviation, 1.0).tolist()


def number_ids(column: pa.Array, vocabulary: list[str]) -> np.ndarray:
    """Int64 [rows]: 1 + position in `vocabulary`, 0 for a null and for a value it lacks."""
    return Ids(pa.array(vocabulary, column.type)).rows(column).astype(np.int64) + 1
