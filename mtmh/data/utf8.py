"""Bytes that are no UTF-8: rows that hold any are named, and what stays of them can be read."""

from contextlib import suppress
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view)
LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


def as_utf8(table: pa.Table, text_columns: set[str]) -> tuple[pa.Table, pa.Array]:
    """The table with its text as UTF-8, other bytes written out as \\xC9, and a reason per row,
    null = fine.

    Columns of bytes among `text_columns` become text. A column that is no text and cannot be
    validated is left out, and the run says so.
    """
    reasons = pa.nulls(table.num_rows, pa.string())
    # Of a column that is there twice the contract's check will say so.
    unique = len(set(table.column_names)) == table.num_columns
    for name in table.column_names if unique else []:
        values = table[name]
        is_bytes = name in text_columns and _holds(values.type, BYTES)
        if not is_bytes:
            with suppress(pa.ArrowInvalid):
                values.validate(full=True)
                continue  # all of it is UTF-8
        position = table.column_names.index(name)
        if not is_bytes and not _holds(values.type, TEXTS):
            print(
                f"column {name} ({values.type}) holds bytes that are no UTF-8: it is left out",
                flush=True,
            )
            table = table.remove_column(position)
            continue
        text, broken = _decoded(values)
        table = table.set_column(position, name, text)
        reason = pa.scalar(f"{name} holds bytes that are no UTF-8")
        reason = pc.if_else(pa.array(broken), reason, pa.scalar(None, pa.string()))
        reasons = pc.coalesce(reasons, reason)
    return table, reasons


def _holds(kind: pa.DataType, kinds: tuple[Any, ...]) -> bool:
    """Whether the type is one of `kinds`, or a dictionary or list of one."""
    if pa.types.is_dictionary(kind) or any(is_list(kind) for is_list in LISTS):
        return _holds(kind.value_type, kinds)
    return any(is_kind(kind) for is_kind in kinds)


def _decoded(values: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """The values as text, and True [rows] where one was no UTF-8."""
    kind = values.type
    if pa.types.is_dictionary(kind):
        values = pa.chunked_array(
            [chunk.dictionary_decode() for chunk in values.chunks], kind.value_type
        )
    if any(is_list(kind) for is_list in LISTS):
        lists = values.cast(pa.list_(pa.large_binary())).to_pylist()
        texts = [None if row is None else [_escaped(value) for value in row] for row in lists]
        broken = [row is not None and any(not _is_utf8(value) for value in row) for row in lists]
        return pa.array(texts, pa.list_(pa.string())), np.array(broken, bool)
    raw = values.cast(pa.large_binary()).to_pylist()
    broken = [not _is_utf8(value) for value in raw]
    return pa.array(map(_escaped, raw), pa.string()), np.array(broken, bool)


def _escaped(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="backslashreplace")


def _is_utf8(value: bytes | None) -> bool:
    try:
        return value is None or value.decode() is not None
    except UnicodeDecodeError:
        return False
