"""Ids that are the word for a missing one."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from helpers.small_log import EVENTS, MakeFolder

from mtmh.config import DataSettings
from mtmh.data.prepare import prepare
from mtmh.data.prepared import Prepared
from mtmh.errors import UserError


def users(word: str, rows: int) -> pa.Array:
    return pa.array([word] * rows + [f"u{row % 40}" for row in range(EVENTS - rows)])


@pytest.mark.parametrize("word", ["nan", "None", "NULL", "<NA>", "NaT", " nan "])
def test_the_word_in_masses_is_rejected_with_its_share(
    make_folder: MakeFolder, tmp_path: Path, word: str
) -> None:
    folder = make_folder(interactions={"user_id": users(word, 50)})
    with pytest.raises(
        UserError,
        match=f"50 x user_id is '{word}' in 25.0% of the rows: the word for a missing one",
    ):
        prepare(str(folder), tmp_path / "out", DataSettings(), seed=0)


def test_items_too(make_folder: MakeFolder, tmp_path: Path) -> None:
    items = pa.array(["nan" if row % 3 == 0 else f"i{row % 30:02d}" for row in range(EVENTS)])
    with pytest.raises(UserError, match=r"item_id is 'nan' in 33\.5% of the rows"):
        prepare(
            str(make_folder(interactions={"item_id": items})),
            tmp_path / "out",
            DataSettings(),
            seed=0,
        )


def test_the_rule_can_be_switched_off(make_folder: MakeFolder, tmp_path: Path) -> None:
    folder = make_folder(interactions={"user_id": users("nan", 50)})
    prepare(str(folder), tmp_path / "out", DataSettings(missing_ids="keep"), seed=0)
    assert Prepared.load(tmp_path / "out").n_users == 41


def test_a_user_who_is_called_so_stays(make_folder: MakeFolder, tmp_path: Path) -> None:
    names = np.array(["null", "None", *[f"u{user}" for user in range(38)]])
    folder = make_folder(interactions={"user_id": pa.array(names[np.arange(EVENTS) % 40])})
    prepare(str(folder), tmp_path / "out", DataSettings(), seed=0)
    assert Prepared.load(tmp_path / "out").n_users == 40
