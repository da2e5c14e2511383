"""New items into a version that is trained: retrievable from their first hour on, at no cost of training.

Each takes the place that a build with it in the catalog would have given it (see `build` and `place_cold`): rows of
items that are there never move, so what is known of them, and every number that another part keeps, goes on to hold.
"""

from dataclasses import dataclass

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from mtmh.errors import UserError
from mtmh.retrieval.cold import place_cold
from mtmh.retrieval.index import Tuning, extend_index, on_gpu
from mtmh.retrieval.intake import Encoded, Intake
from mtmh.retrieval.retriever import Retriever


def add_items(retriever: Retriever, items: pa.Table, intake: Intake) -> Retriever:
    """A retriever that holds `items` too, a table of the contract, in order of item_id after those it has.

    `retriever` itself stays as it is. Raises UserError when a row breaks the contract, an item is there already, or
    the version can know nothing of any of them.
    """
    return extend(retriever, items, intake).retriever


@dataclass(frozen=True)
class Extended:
    """A retriever with items added, and what came of it."""

    retriever: Retriever
    items: pa.Table  # those added, as the contract has them, in their order
    encoded: Encoded
    tunings: dict[str, Tuning]  # head -> how its index is set


def extend(retriever: Retriever, items: pa.Table, intake: Intake) -> Extended:
    """As `add_items`, with what a version on disk needs besides."""
    items = intake.check(items)
    _refuse_known(retriever.items, items)
    encoded = intake.encode(items)
    _refuse_untold(items, encoded)
    settings, indexes, vectors, tunings = intake.settings, {}, {}, {}
    for head, rows in retriever.vectors.items():
        vectors[head] = np.concatenate([rows, _placed(retriever, rows, encoded, head, intake)])
        asked = settings.k_ann, settings.min_recall, intake.seed
        index, tunings[head] = extend_index(retriever.indexes[head], vectors[head], *asked)
        indexes[head] = on_gpu(index)
    content = np.concatenate([retriever.content, encoded.content])
    ranker = retriever.preranker
    if ranker is not None:
        interest = _interests(retriever.content, ranker.interest, ranker.new, ranker.towers.interests, encoded.content)
        ranker = ranker.with_new(encoded.ids, torch.from_numpy(encoded.content), torch.from_numpy(interest))
    table = _rows_like(retriever.items, items)
    return Extended(Retriever(table, vectors, indexes, content, ranker), items, encoded, tunings)


def _placed(retriever: Retriever, vectors: np.ndarray, encoded: Encoded, head: str, intake: Intake) -> np.ndarray:
    """Where a head has the new items, float32 [n, d]: as `build` places what T1 does not know."""
    own = encoded.vectors[head]
    if intake.settings.cold != "content":
        return own
    donors = np.flatnonzero(retriever.items["in_train"].to_numpy() & retriever.content.any(axis=1))
    known = np.arange(len(donors) + len(own)) < len(donors)
    content = np.concatenate([retriever.content[donors], encoded.content])
    return place_cold(np.concatenate([vectors[donors], own]), content, known, intake.tau_q)[len(donors) :]


def _interests(known: np.ndarray, interest: Tensor, new: Tensor, interests: int, content: np.ndarray) -> np.ndarray:
    """The preranker's cluster of each item of `content`, int64 [n]; the last is of items without content.

    A cluster's centre is the mean direction of its items that T1 knows: what K-means itself ended with, once it has
    converged. `known` float32 [items, c] is the content of the items of `interest` and `new`.
    """
    of, learned = interest.numpy(), known.any(axis=1) & ~new.numpy()
    centres = np.zeros((interests - 1, known.shape[1]), np.float32)
    np.add.at(centres, of[learned], known[learned])
    found = np.full(len(content), interests - 1, np.int64)
    there = content.any(axis=1)
    if len(centres) and there.any():
        faiss.normalize_L2(centres)
        found[there] = (content[there] @ centres.T).argmax(axis=1)
    return found


def _rows_like(table: pa.Table, items: pa.Table) -> pa.Table:
    """The version's item table with `items` after its own."""
    new = items.append_column("in_train", pa.repeat(False, len(items)))
    return pa.concat_tables([table, new.select(table.column_names).cast(table.schema)]).combine_chunks()


def _refuse_known(table: pa.Table, items: pa.Table) -> None:
    known = items.filter(pc.is_in(items["item_id"], value_set=table["item_id"].combine_chunks()))
    if len(known):
        raise UserError(
            f"{len(known):,} of {len(items):,} new items are in this version already, such as"
            f" {known['item_id'][0].as_py()!r}; none was added. Leave them out: rows that are there never change."
        )


def _refuse_untold(items: pa.Table, encoded: Encoded) -> None:
    if not encoded.told().any():
        raise UserError(
            f"nothing is known of any of the {len(items):,} new items, such as {items['item_id'][0].as_py()!r}: no text"
            " or image that this version reads, no creator that it knows. They would all be retrieved alike. Give them"
            " a title, or train on them."
        )
