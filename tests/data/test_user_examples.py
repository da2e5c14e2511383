"""Examples of the preranker: what an example sees, and what it must not see."""

import numpy as np
import pytest

from mtmh.data.user_examples import NextBatch, NextItems
from mtmh.ragged import Ragged

HISTORIES = [
    [3, 1, 4, 0],
    [5],
    [],
    [1, 5, 2],
    [0, 3],
]  # newest first; item 6 and 7 are never engaged with
ITEMS, LENGTH = 8, 2


def examples(seed: int = 0, batch_size: int = 3) -> NextItems:
    history = Ragged.of(HISTORIES)
    label = (history.values % 2).astype(np.float32)
    return NextItems(history, label, ITEMS, batch_size, negatives=10, length=LENGTH, seed=seed)


def told(batch: NextBatch) -> list[tuple[int, list[tuple[int, float]]]]:
    """Each example's positive and its past as (item, age)."""
    rows = []
    for row, positive in enumerate(batch.positive.tolist()):
        chosen = batch.row == row
        past = batch.past[batch.event[chosen]].tolist()
        rows.append(
            (
                batch.columns[positive].item(),
                list(zip(past, batch.age[chosen].tolist(), strict=True)),
            )
        )
    return rows


def test_every_item_but_a_users_first_is_told_from_the_ones_before_it() -> None:
    expected = [
        (
            items[place],
            [(item, float(age)) for age, item in enumerate(items[place + 1 : place + 1 + LENGTH])],
        )
        for items in HISTORIES
        for place in range(len(items) - 1)
    ]
    found = [row for batch in examples().epoch(0) for row in told(batch)]
    assert sorted(found) == sorted(expected)


def test_columns_a_user_engaged_with_are_masked_and_no_others() -> None:
    for batch in examples().epoch(0):
        hits = set(zip(batch.hit_row.tolist(), batch.hit_column.tolist(), strict=True))
        for row, (positive, past) in enumerate(told(batch)):
            users = [
                items
                for items in HISTORIES
                if positive in items and {item for item, _ in past} <= set(items)
            ]
            masked = {batch.columns[column].item() for at, column in hits if at == row}
            assert any(
                masked == (set(own) & set(batch.columns.tolist())) - {positive} for own in users
            )


def test_negatives_are_items_that_t1_knows_and_the_law_sums_to_one() -> None:
    drawn = examples()
    columns = {
        column
        for epoch in range(5)
        for batch in drawn.epoch(epoch)
        for column in batch.columns.tolist()
    }
    assert columns == {0, 1, 2, 3, 4, 5}
    assert np.exp(drawn.log_q).sum() == pytest.approx(1)


def test_an_epoch_depends_on_the_seed_and_its_number() -> None:
    def order(seed: int, number: int) -> list:
        return [told(batch) for batch in examples(seed).epoch(number)]

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 0)
    assert order(0, 1) != order(1, 1)


def test_the_label_is_that_of_the_positive() -> None:
    for batch in examples().epoch(0):
        assert batch.label.tolist() == [positive % 2 for positive, _ in told(batch)]
