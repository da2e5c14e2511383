"""The content benchmark judges by topics, and no concept that it trains on may name one."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.studies.content import held_out, judge, without_topics
from mtmh.config import DataSettings
from mtmh.content.concepts import read_concepts
from mtmh.data.prepare import prepare
from mtmh.data.prepared import Prepared

NEWS, SPORTS = ("news", "newspolitics"), ("sports", "football_nfl")


def mind(folder: Path, entities: list[str], topics: list[tuple[str, str]]) -> Prepared:
    """News number i has the topics i, and the entity i where there is one."""
    folder.mkdir()
    lines = [
        f"N{number}\t{one}\t{two}\tTitle\tText\thttps://x\t[]\t"
        + (
            f'[{{"Label": "{entities[number]}", "Confidence": 1.0}}]'
            if number < len(entities)
            else "[]"
        )
        for number, (one, two) in enumerate(topics)
    ]
    (folder / "news.tsv").write_text("\n".join(lines) + "\n")
    clicks = [
        f"{day}\tU{day % 3}\t11/{day}/2019 9:00:00 AM\t\tN{day // 2 % len(topics)}-1"
        for day in range(1, 15)
    ]
    (folder / "behaviors.tsv").write_text("\n".join(clicks) + "\n")
    prepare(str(folder), folder / "prepared", DataSettings(), seed=0)
    return Prepared.load(folder / "prepared")


def test_concepts_that_name_a_topic_or_a_part_of_one_are_left_out(tmp_path: Path) -> None:
    named = ["Fox News", "NFL", "College Football", "Politics of Ohio", "Sports"]
    others = ["Newsom", "Macy's", "Tennis"]
    data = mind(
        tmp_path / "mind",
        named + others,
        [NEWS, SPORTS, *[NEWS] * 3, ("video", "videos"), NEWS, SPORTS],
    )
    kept = without_topics(read_concepts(data), data)
    assert sorted(kept.names[place] for place in kept.concept) == ["macy's", "newsom", "tennis"]


def test_both_levels_are_judged_where_they_differ(tmp_path: Path) -> None:
    """Six news in two groups: within a group all share the category, and two of three the
    subcategory.
    """
    topics = [NEWS, NEWS, ("news", "newsworld"), SPORTS, SPORTS, ("sports", "tennis")]
    data = mind(tmp_path / "mind", [], topics)
    near = np.repeat(np.eye(2, dtype=np.float32), 3, axis=0)
    found = judge(near, data, np.ones(6, bool))
    assert found["chance"] == pytest.approx(2 / 15)
    assert found["l1_chance"] == pytest.approx(6 / 15)
    assert found["l1_auc"] == 1.0
    assert 0.5 < found["auc"] < 1.0
    one_level = mind(tmp_path / "one", [], [("news", "news")] * 3 + [("sports", "sports")] * 3)
    assert judge(near, one_level, np.ones(6, bool))["match_at_10"] == pytest.approx(2 / 5)
    assert not any(name.startswith("l1_") for name in judge(near, one_level, np.ones(6, bool)))


def test_held_out_items_have_concepts_and_stay_when_others_come(tmp_path: Path) -> None:
    entities = [f"Entity {number}" for number in range(50)]
    few, many = (mind(tmp_path / str(n), entities, [NEWS] * n) for n in (60, 90))
    held = [
        {
            data.items["item_id"][row].as_py()
            for row in np.flatnonzero(held_out(data, read_concepts(data)))
        }
        for data in (few, many)
    ]
    assert held[0] == held[1]
    assert held[0] < {f"N{number}" for number in range(50)}
    assert 2 <= len(held[0]) <= 25
