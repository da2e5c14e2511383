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
    vocabularies: dict[str, list[str]]  # id feature -> known values, number = place + 1
    float_names: list[str]

    @classmethod
    def load(cls, data: Prepared, features: Path) -> "Catalog":
        """Number the ids of items that T1 engaged with; what only later items have is unknown (row 0 of its table)."""
        columns, vocabularies = [], {}
        for name in ["item_id", *data.info["id_features"]]:
            column = data.items[name].combine_chunks()
            known = pc.unique(column.filter(pa.array(data.in_train))).drop_null()
            known = known.take(pc.sort_indices(known))
            if len(known):
                vocabularies[name] = known.to_pylist()
                columns.append(number_ids(column, vocabularies[name]))
        table = pq.read_table(features / "item_features.parquet")
        floats = np.zeros((data.n_items, table.num_columns), np.float32)
        for place, column in enumerate(table.columns):
            floats[:, place] = column.to_numpy()
        ids = torch.from_numpy(np.column_stack(columns))
        return cls(ids, torch.from_numpy(floats), vocabularies, table.column_names)

    def hide(self, ids: Tensor, floats: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Show the items at `rows` of a batch as T1 would not know them: id unknown, no events, no age (id dropout).

        What trains row 0 of the item table, and the side features, on the place of items that come later. `ids` int64
        [n, id features] and `floats` float32 [n, float features] are changed, and returned.
        """
        ids[rows, 0] = 0
        for place, name in enumerate(self.float_names):
            if name in STATISTICS:
                floats[rows, place] = 0.0
        return ids, floats

    def architecture(
        self, embedding_dim: int, hidden: list[int], out_dim: int, heads: tuple[str, ...]
    ) -> dict[str, Any]:
        """Arguments of TwoHeads that fit this catalog, ready for model.json; side features get half the width."""
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
    """Mean and deviation of each column of float32 [items, float features], finite; 1 where it is constant."""
    if not floats.shape[1]:
        return [], []  # torch warns of empty columns
    mean, deviation = floats.mean(dim=0), floats.std(dim=0, correction=0)
    if not (mean.isfinite() & deviation.isfinite()).all():  # squares of large numbers are past float32
        mean, deviation = floats.double().mean(dim=0), floats.double().std(dim=0, correction=0)
    varies = (floats.amax(dim=0) > floats.amin(dim=0)) & (deviation > 0)
    return mean.tolist(), torch.where(varies, deviation, 1.0).tolist()


def number_ids(column: pa.Array, known: list[str]) -> np.ndarray:
    """Int64 [rows]: 1 + place in `known`, 0 for what is not there or null."""
    return Ids(pa.array(known, column.type)).rows(column).astype(np.int64) + 1
