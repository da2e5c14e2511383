"""Yelp's academic data set as it is published: reviews and businesses, JSON Lines."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mtmh.data.importers import check, read, write_contract
from mtmh.errors import UserError


def review(user: str, business: str, stars: object = 4.0, date: str = "2018-07-07 22:09:11") -> str:
    line = {
        "review_id": f"{user}{business}",
        "user_id": user,
        "business_id": business,
        "stars": stars,
        "useful": 0,
    }
    return json.dumps({**line, "funny": 0, "cool": 0, "text": "Good,\nreally", "date": date})


def business(name: str, categories: str | None, **more: object) -> str:
    line = {
        "business_id": name,
        "name": f"Chez {name}",
        "address": "1 Main St",
        "city": "Tampa",
        "state": "FL",
        "postal_code": "1",
        "latitude": 1.0,
        "longitude": 2.0,
        "stars": 4.5,
        "review_count": 7,
        "is_open": 1,
        "attributes": {"WiFi": "u'free'"},
        "categories": categories,
        "hours": None,
    }
    return json.dumps(line | more)


REVIEWS = [
    review("u1", "b1"),
    review("u1", "b2", 1.0),
    review("u2", "b1", 5.0, "2019-01-01 00:00:00"),
]
BUSINESSES = [
    business("b1", "Food Trucks, Restaurants, Food, Tacos"),
    business("b2", None, city="", state="ON"),
    business("b3", "Beer, Wine & Spirits, Shopping"),
]


def yelp(folder: Path, reviews: list[str] = REVIEWS, businesses: list[str] = BUSINESSES) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "yelp_academic_dataset_review.json").write_text("\n".join(reviews) + "\n")
    (folder / "yelp_academic_dataset_business.json").write_text("\n".join(businesses) + "\n")
    return folder


def test_reviews_and_businesses_become_the_contract(tmp_path: Path) -> None:
    assert write_contract(yelp(tmp_path / "y"), tmp_path / "out", 0.0) == {
        "items": 3,
        "interactions": 3,
    }
    first = pq.read_table(tmp_path / "out" / "interactions.parquet").to_pylist()[0]
    assert (first["timestamp"], first["event"], first["value"]) == (
        datetime(2018, 7, 7, 22, 9, 11, tzinfo=UTC),
        "review",
        4.0,
    )
    items = pq.read_table(tmp_path / "out" / "items.parquet").to_pylist()
    assert [(item["l1_topics"], item["l2_topics"]) for item in items] == [
        (["Restaurants", "Food"], ["Food Trucks", "Tacos"]),
        ([], []),
        (["Shopping"], ["Beer", "Wine & Spirits"]),
    ]
    assert (items[0]["title"], items[0]["text"]) == ("Chez b1", "")
    assert [(item["city"], item["state"]) for item in items[:2]] == [("Tampa", "FL"), (None, "ON")]
    assert set(items[0]).isdisjoint({"stars", "review_count", "line.json"})


def test_city_and_state_are_id_features_where_declared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = read(yelp(tmp_path))
    assert check(source, ["city"], [])["items"].clean["city"].to_pylist() == [
        "Tampa",
        None,
        "Tampa",
    ]
    assert "left out: state" in capsys.readouterr().out


def test_bad_lines_are_rejected_as_written(tmp_path: Path) -> None:
    bad = [
        "not json",
        review("u3", "b1", "many"),
        review("u3", "b1", 3, "2018-13-07 22:09:11"),
        review("u3", "b9"),
    ]
    checked = check(read(yelp(tmp_path, REVIEWS + bad)), [], [])
    rejected = checked["interactions"].rejected.to_pylist()
    assert [(row["row"], row["reason"]) for row in rejected] == [
        (3, "the line is not a JSON object"),
        (4, "stars is not a number"),
        (5, "date is not like 2019-07-14 18:03:56"),
        (6, "item_id is not among the items"),
    ]
    assert "not json" in rejected[0]["content"]
    assert "2018-13-07" in rejected[2]["content"]


def test_a_missing_field_or_file_is_named(tmp_path: Path) -> None:
    reviews = [json.dumps({"user_id": "u1", "business_id": "b1", "stars": 1.0})]
    with pytest.raises(
        UserError,
        match=r"review\.json: field 'date' is missing; the first line has user_id, business_id",
    ):
        read(yelp(tmp_path, reviews))
    (tmp_path / "yelp_academic_dataset_business.json").unlink()
    with pytest.raises(
        UserError, match=r"(?s)Yelp: yelp_academic_dataset_review\.json, yelp_academic_dataset_bus"
    ):
        read(tmp_path)
