"""Rows of ids, whichever form the columns have."""

import numpy as np
import pyarrow as pa
import pytest

from mtmh.ids import Ids

CHUNKED = pa.chunked_array([["b", "a"], ["c"]])


@pytest.mark.parametrize("values", [CHUNKED, CHUNKED.combine_chunks(), ["b", "a", "c"]])
def test_rows_of_ids_and_minus_one_for_the_others(
    values: pa.ChunkedArray | pa.Array | list[str],
) -> None:
    queries = [["a", "x", "b"], pa.array(["a", None, "b"]), pa.chunked_array([["a"], ["x", "b"]])]
    for query in queries:
        rows = Ids(values).rows(query)
        assert rows.tolist() == [1, -1, 0]
        assert rows.dtype == np.int32
    assert Ids(values).rows([]).tolist() == []


def test_ids_need_not_be_strings() -> None:
    days = pa.array([10, 20], pa.date32())
    assert Ids(days).rows(pa.chunked_array([pa.array([20, 30, 10], pa.date32())])).tolist() == [
        1,
        -1,
        0,
    ]
