"""The concepts that items are tagged with (hashtags, queries, tags), as the contrastive training
reads them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtmh.config import ConceptSettings
from mtmh.data.prepared import Prepared
from mtmh.ids import Ids

FEWEST_ITEMS = 50  # with concepts; fewer teach nothing that a tenth of them could confirm


@dataclass(frozen=True)
class Concepts:
    """Which item has which concept, each pair once."""

    item: np.ndarray  # int64 [pairs], row of the items, ascending
    concept: np.ndarray  # int64 [pairs], row of `names`
    weight: np.ndarray  # float64 [pairs], how often the pair is drawn
    names: list[str]  # trimmed, in lower case
    sources: dict[str, int]  # source -> rows
    topic_rows: int  # rows left out because the concept is the name of a topic
    left_out: dict[str, int] = field(default_factory=dict)  # source -> rows left out because of it

    def of_items(self, items: np.ndarray) -> "Concepts":
        """The pairs of the items chosen by `items`, bool [items]; `names` stay as they are."""
        return self.where(items[self.item])

    def where(self, pairs: np.ndarray) -> "Concepts":
        """The pairs chosen by `pairs`, bool [pairs]; `names` stay as they are."""
        return replace(
            self, item=self.item[pairs], concept=self.concept[pairs], weight=self.weight[pairs]
        )


def read_concepts(data: Prepared, leave_out: Sequence[str] = ()) -> Concepts:
    """The concepts of the prepared data, but for those of the sources `leave_out`.

    A pair that is there several times (or from several sources) adds up. Case and outer spaces make
    no difference. A concept that is the name of a topic is left out: relevance is measured on
    topics, so the encoder must not be taught them.
    """
    table = data.concepts()
    # Leave out the unwanted sources, and what relevance is measured on.
    unwanted = pc.is_in(table["source"], value_set=pa.array(leave_out, pa.string()))
    left_out = Counter(table["source"].filter(unwanted).to_pylist())
    table = table.filter(pc.invert(unwanted))
    name = pc.utf8_lower(pc.utf8_trim_whitespace(table["concept"]))
    topics = pa.array([*data.topic_names("l1"), *data.topic_names("l2")], pa.string())
    is_topic = pc.is_in(name, value_set=pc.utf8_lower(pc.utf8_trim_whitespace(topics)))
    table = table.set_column(1, "concept", name).filter(pc.invert(is_topic))
    # Each pair once, in an order that the data alone decide.
    pairs = table.group_by(["item", "concept"], use_threads=False).aggregate([("weight", "sum")])
    pairs = pairs.sort_by([("item", "ascending"), ("concept", "ascending")])
    names = pc.unique(pairs["concept"])
    names = names.take(pc.sort_indices(names))
    return Concepts(
        item=pairs["item"].to_numpy().astype(np.int64),
        concept=Ids(names).rows(pairs["concept"]).astype(np.int64),
        weight=pairs["weight_sum"].to_numpy(),
        names=names.to_pylist(),
        sources=dict(sorted(Counter(table["source"].to_pylist()).items())),
        topic_rows=int(pc.sum(is_topic).as_py() or 0),
        left_out=dict(sorted(left_out.items())),
    )


def concepts_to_train(
    data: Prepared, has_content: np.ndarray, settings: ConceptSettings
) -> Concepts | None:
    """The concepts of the items that have content, bool [items]; what is left out is printed.

    None where `settings` want no training, or where there are too few for it.
    """
    if not settings.train:
        return None
    # An item without content has no vector that a concept could teach something.
    concepts = read_concepts(data, settings.leave_out).of_items(has_content)
    # The run says what is left out, so that nobody looks for it in the training.
    if concepts.left_out:
        rejected = concepts.left_out.items()
        rows = ", ".join(f"{rows:,} of source {source}" for source, rows in rejected)
        print(f"content: concepts are left out: {rows} (content.concepts.leave_out)", flush=True)
    if concepts.topic_rows:
        print(
            f"content: {concepts.topic_rows:,} concepts are names of topics: they are left out",
            flush=True,
        )
    items = len(np.unique(concepts.item))
    # Some of the items are held out, and must be enough to tell when to stop.
    if items >= FEWEST_ITEMS:
        return concepts
    # Data without any concept are as they should be; a few that are not used need a word.
    if items:
        print(
            f"content: {items:,} items with content have concepts, {FEWEST_ITEMS} are needed to"
            " train on them: the encoder stays untrained",
            flush=True,
        )
    return None
