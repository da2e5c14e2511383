"""Rows of different lengths, against plain lists."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mtmh.ragged import Ragged, ranges

Rows = list[list[int]]
rows_of = st.lists(st.lists(st.integers(-3, 9), max_size=5), max_size=6)


def listed(ragged: Ragged) -> Rows:
    assert ragged.indptr.dtype == np.int64
    assert ragged.indptr[0] == 0
    assert ragged.indptr[-1] == len(ragged.values)
    ends = zip(ragged.indptr[:-1], ragged.indptr[1:], strict=True)
    return [ragged.values[start:end].tolist() for start, end in ends]


@given(rows_of)
def test_lengths_rows_and_places(rows: Rows) -> None:
    ragged = Ragged.of(rows)
    assert listed(ragged) == rows
    assert ragged.rows == len(rows)
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    assert ragged.row_of.tolist() == [number for number, row in enumerate(rows) for _ in row]
    assert ragged.position_of.tolist() == [place for row in rows for place in range(len(row))]


@given(rows_of, st.data())
def test_rows_are_taken_in_any_order_and_cut(rows: Rows, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8)) if rows else []
    most = data.draw(st.one_of(st.none(), st.integers(0, 6)))
    taken = Ragged.of(rows).take(np.array(chosen, np.int64), most)
    assert listed(taken) == [rows[number][:most] for number in chosen]
    assert listed(Ragged.of(rows).take(slice(1, 3))) == rows[1:3]


@given(rows_of)
def test_values_are_chosen_and_sorted_within_their_rows(rows: Rows) -> None:
    ragged = Ragged.of(rows)
    assert listed(ragged.where(ragged.values >= 0)) == [[v for v in row if v >= 0] for row in rows]
    assert listed(ragged.sorted()) == [sorted(row) for row in rows]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4)), max_size=6))
def test_ranges(spans: list[tuple[int, int]]) -> None:
    start, length = np.array(spans, np.int64).reshape(-1, 2).T
    assert listed(ranges(start, start + length)) == [list(range(s, s + n)) for s, n in spans]
