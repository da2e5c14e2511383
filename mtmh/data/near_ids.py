"""Ids of two files that differ by how they are written: what would make them meet."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

UNKNOWN = "item_id is not among the items"
# How the ids of the two files differ -> the form in which they would meet.
FORMS: dict[str, Callable[[pa.Array], pa.Array]] = {
    "blanks before or after": pc.utf8_trim_whitespace,
    "'.0' at the end": lambda ids: pc.replace_substring_regex(ids, r"^(-?\d+)\.0+$", r"\1"),
    "leading zeros": lambda ids: pc.replace_substring_regex(ids, r"^0+(.)", r"\1"),
    "letter case": pc.utf8_lower,
}


def near_ids(
    item_id: pa.ChunkedArray, known: pa.ChunkedArray, table: str
) -> list[tuple[str, np.ndarray]]:
    """Reasons and their rows (bool [rows]): for each way of writing that keeps ids from being `known`; all others."""
    known = known.combine_chunks()
    unknown = ~_mask(pc.is_in(item_id, value_set=known))
    rules = []
    if unknown.any():
        strange = pc.unique(item_id.filter(pa.array(unknown))).drop_null()
        forms = {**FORMS, "more than one of blanks, '.0', leading zeros and letter case": _all}
        for difference, form in forms.items():
            position = pc.index_in(form(strange), value_set=form(known))
            if position.null_count < len(position):
                rules.append(
                    _rule(
                        item_id,
                        f"{table} differ from items in {difference}",
                        strange,
                        known,
                        position,
                    )
                )
    return [*rules, (UNKNOWN, unknown)]


def _rule(
    item_id: pa.ChunkedArray,
    difference: str,
    strange: pa.Array,
    known: pa.Array,
    position: pa.Array,
) -> tuple[str, np.ndarray]:
    near = pc.is_valid(position)
    written, listed = strange.filter(near), known.take(position.filter(near))
    reason = (
        f"{UNKNOWN}: item_ids of {difference}, e.g. {written[0].as_py()!r} where items has"
        f" {listed[0].as_py()!r}; write both alike"
    )
    return reason, _mask(pc.is_in(item_id, value_set=written))


def _all(ids: pa.Array) -> pa.Array:
    for form in FORMS.values():
        ids = form(ids)
    return ids


def _mask(values: pa.ChunkedArray) -> np.ndarray:
    return pc.fill_null(values, False).to_numpy()
