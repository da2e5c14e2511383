"""Amazon Reviews 2023 as it is published: reviews and metadata, JSON Lines, a pair of files a
category.
"""

import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mtmh.data.importers import check, fingerprint, read, write_contract
from mtmh.errors import UserError


def review(
    user: str, parent: str, rating: object = 4.0, timestamp: object = 1588687728923, **more: object
) -> str:
    line = {
        "rating": rating,
        "title": "Fine",
        "text": "It does.\nReally.",
        "images": [],
        "asin": f"{parent}-red",
        "parent_asin": parent,
        "user_id": user,
        "timestamp": timestamp,
        "helpful_vote": 0,
        "verified_purchase": True,
    }
    return json.dumps(line | more)


def product(parent: str, **more: object) -> str:
    line = {
        "main_category": "All Beauty",
        "title": f"Brush {parent}",
        "average_rating": 4.8,
        "rating_number": 10,
        "features": ["Soft", "Round"],
        "description": ["For powder."],
        "price": None,
        "images": [{"thumb": "https://x"}],
        "videos": [],
        "store": "Maker",
        "categories": ["Beauty & Personal Care", "Makeup", "Brushes", "Round"],
        "details": {"Color": "red"},
        "parent_asin": parent,
        "bought_together": None,
    }
    return json.dumps(line | more)


REVIEWS = [review("U1", "P1"), review("U1", "P2", 1), review("U2", "P1", 5.0, 1588687728000)]
PRODUCTS = [
    product("P1"),
    product(
        "P2",
        categories=["Beauty & Personal Care"],
        store=None,
        features=[],
        description=[],
        title=None,
    ),
    product("P3", categories=["Beauty & Personal Care", "Hair Care"], main_category=None),
    product("P4", categories=[], main_category=None),
]


def amazon(folder: Path, reviews: list[str] = REVIEWS, products: list[str] = PRODUCTS) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "All_Beauty.jsonl").write_text("\n".join(reviews) + "\n")
    (folder / "meta_All_Beauty.jsonl").write_text("\n".join(products) + "\n")
    return folder


def test_reviews_and_products_become_the_contract(tmp_path: Path) -> None:
    assert write_contract(amazon(tmp_path / "a"), tmp_path / "out", 0.0) == {
        "items": 4,
        "interactions": 3,
    }
    checked = check(read(tmp_path / "out"), [], [])
    first = checked["interactions"].clean.to_pylist()[0]
    assert first == {
        "user_id": "U1",
        "item_id": "P1",
        "timestamp": datetime(2020, 5, 5, 14, 8, 48, 923000, tzinfo=UTC),
        "event": "review",
        "value": 4.0,
        "dwell_seconds": None,
        "arm": None,
    }
    items = checked["items"].clean.to_pylist()
    assert (items[0]["title"], items[0]["text"]) == ("Brush P1", "Soft Round For powder.")
    assert (items[1]["title"], items[1]["text"]) == ("", "")
    assert [item["creator_id"] for item in items[:2]] == ["Maker", None]
    assert [(item["l1_topics"], item["l2_topics"]) for item in items] == [
        (["Makeup"], ["Brushes"]),
        (["All Beauty"], []),
        (["Hair Care"], []),
        ([], []),
    ]


def test_bad_lines_are_rejected_as_written(tmp_path: Path) -> None:
    bad = [
        '{"rating": 5.0, "user_id"',
        "[1, 2]",
        review("U3", "P1", "five"),
        review("U3", "P1", 5, "May 2020"),
    ]
    bad += [review("U3", "P9"), review("", "P1")]
    folder = amazon(tmp_path, REVIEWS + bad, [*PRODUCTS, '{"parent_asin": "P5"'])
    with (folder / "All_Beauty.jsonl").open("ab") as file:
        file.write(b'{"rating": "\xff"}\n')
    checked = check(read(folder), [], [])
    rejected = checked["interactions"].rejected.to_pylist()
    assert [(row["row"], row["reason"]) for row in rejected] == [
        (3, "the line is not a JSON object"),
        (4, "the line is not a JSON object"),
        (5, "rating is not a number"),
        (6, "timestamp is not a number"),
        (7, "item_id is not among the items"),
        (8, "user_id is null or empty"),
        (9, "the line is not a JSON object"),
    ]
    assert "[1, 2]" in rejected[1]["content"]
    assert "May 2020" in rejected[3]["content"]
    assert checked["interactions"].clean.num_rows == 3
    assert [row["reason"] for row in checked["items"].rejected.to_pylist()] == [
        "the line is not a JSON object"
    ]


def test_a_repeated_review_is_read_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = [
        REVIEWS[0],
        review("U1", "P1", 4.0, asin="P1-blue"),
        review("U1", "P1", 2.0, 1588687728924),
    ]
    checked = check(read(amazon(tmp_path, REVIEWS + again)), [], [])
    assert "All_Beauty.jsonl: 2 lines repeat an earlier line" in capsys.readouterr().out
    assert checked["interactions"].clean["value"].to_pylist() == [4.0, 1.0, 5.0, 2.0]


def test_several_categories_compressed_or_not(tmp_path: Path) -> None:
    folder = amazon(tmp_path)
    before = fingerprint(folder)
    with gzip.open(folder / "Gift_Cards.jsonl.gz", "wt") as file:
        file.write(review("U1", "G1") + "\n")
    with pytest.raises(
        UserError, match=r"Gift_Cards\.jsonl\.gz is there, meta_Gift_Cards\.jsonl\.gz is not"
    ):
        read(folder)
    with gzip.open(folder / "meta_Gift_Cards.jsonl.gz", "wt") as file:
        file.write(product("G1") + "\n")
    checked = check(read(folder), [], [])
    assert checked["interactions"].clean["item_id"].to_pylist() == ["P1", "P2", "P1", "G1"]
    assert fingerprint(folder) != before
    (folder / "All_Beauty.jsonl").unlink()
    with pytest.raises(
        UserError, match=r"meta_All_Beauty\.jsonl is there, All_Beauty\.jsonl is not"
    ):
        read(folder)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    old = [
        json.dumps({"reviewerID": "U1", "asin": "P1", "overall": 5.0, "unixReviewTime": 1588687728})
    ]
    with pytest.raises(
        UserError,
        match=r"All_Beauty\.jsonl: field 'user_id' is missing; the first line has reviewerID",
    ):
        read(amazon(tmp_path, old))
    with pytest.raises(UserError, match=r"meta_All_Beauty\.jsonl: field 'parent_asin' is missing"):
        read(
            amazon(
                tmp_path,
                REVIEWS,
                ["broken", json.dumps({"asin": "P1", "title": "x", "categories": []})],
            )
        )
