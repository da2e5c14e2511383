"""From ids to the rows that they stand in."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Column: TypeAlias = pa.Array | pa.ChunkedArray


class Ids:
    """Distinct ids, one a row: a column of strings, or whatever Arrow can compare."""

    def __init__(self, values: Column | Sequence[str]) -> None:
        self.values = _array(values)

    def rows(self, ids: Column | Sequence[str]) -> np.ndarray:
        """Int32 [ids]: the row of each, -1 for a null and for what is not here."""
        if not isinstance(ids, pa.ChunkedArray):
            ids = _array(ids, self.values.type)
        rows = pc.fill_null(pc.index_in(ids, value_set=self.values), -1)
        return np.asarray(rows).astype(np.int32, copy=False)


def _array(values: Column | Sequence[str], kind: pa.DataType | None = None) -> pa.Array:
    """One array, whichever form the column has."""
    if isinstance(values, pa.ChunkedArray):
        return values.combine_chunks()
    return values if isinstance(values, pa.Array) else pa.array(values, kind or pa.string())
