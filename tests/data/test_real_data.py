"""The real data sets, where they are there (../shared/data; they may not be copied into the
project).
"""

from pathlib import Path

import pytest

from mtmh.config import DataSettings
from mtmh.data.importers import check, read
from mtmh.data.prepare import prepare
from mtmh.data.prepared import Prepared

REAL = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.parametrize(
    ("name", "users", "items", "rows", "topics"),
    [
        ("yelp2019", 30_425, 20_033, 316_324, (23, 983)),
        ("amazon-beauty", 22_363, 12_101, 198_502, (6, 37)),
        ("movielens-small", 610, 9_325, 99_887, None),
    ],
)
def test_real_data_is_prepared(
    tmp_path: Path, name: str, users: int, items: int, rows: int, topics: tuple[int, int] | None
) -> None:
    if not (REAL / name).is_dir():
        pytest.skip(f"{REAL / name} is not there")
    prepare(str(REAL / name), tmp_path, DataSettings(), seed=0)
    prepared = Prepared.load(tmp_path)
    assert (prepared.n_users, prepared.n_items, len(prepared.item)) == (users, items, rows)
    if topics:
        assert (len(prepared.topic_names("l1")), len(prepared.topic_names("l2"))) == topics
    assert 0.15 < (~prepared.is_train).mean() < 0.25
    assert prepared.info["test_users"] == len(prepared.targets()[0]) > 0


def test_the_mind_sample_is_read(capsys: pytest.CaptureFixture[str]) -> None:
    """The sample has 2,000 of the news alone: of most rows, the news is not among the items."""
    if not (REAL / "mind-sample").is_dir():
        pytest.skip(f"{REAL / 'mind-sample'} is not there")
    checked = check(read(REAL / "mind-sample"), [], [])
    assert (
        "5,000 impressions; 181,817 news shown and not clicked are left out; 138,932"
        in capsys.readouterr().out
    )
    items, interactions = checked["items"], checked["interactions"]
    assert (items.clean.num_rows, items.rejected.num_rows) == (2000, 0)
    assert min(len(title) for title in items.clean["title"].to_pylist()) > 0
    assert interactions.clean["event"].value_counts().to_pylist() == [
        {"values": "history", "counts": 5354},
        {"values": "click", "counts": 175},
    ]
    assert set(interactions.rejected["reason"].to_pylist()) == {"item_id is not among the items"}
    entities = checked["concepts"]
    assert (entities.clean.num_rows, entities.rejected.num_rows) == (4705, 0)
    assert len(set(entities.clean["item_id"].to_pylist())) == 1736
    assert interactions.clean.num_rows + interactions.rejected.num_rows == 138_932 + 7_542
