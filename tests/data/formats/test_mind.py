"""MIND as it is published: behaviors.tsv and news.tsv."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mtmh.data.contract import CONCEPTS, INTERACTIONS, ITEMS
from mtmh.data.importers import check, fingerprint, read, write_contract
from mtmh.errors import UserError

NEWS = """\
N1\tsports\ttennis\tA "quoted" final\tFive sets, one "ace\thttps://x\t[]\t[]
N2\tnews\tnewsworld\tBridge opens\t\thttps://x\t[]\t[]
N3\tnews\t\tNo subcategory\tShort\thttps://x\t[]\t[]
N4\tfood\trecipes\tBread\tFlour and water\thttps://x\t[]\t[]
"""
# U1's earliest impression is the second line; U2 has no history; the impression of U3 has no click.
BEHAVIORS = """\
1\tU1\t11/12/2019 9:05:58 AM\tN1 N2\tN3-1 N4-0
2\tU1\t11/11/2019 11:59:59 PM\tN1 N2\tN4-1 N2-0 N1-1
3\tU2\t11/13/2019 12:00:01 AM\t\tN2-1
4\tU3\t11/13/2019 1:00:00 PM\tN4\tN2-0
"""
TWO = datetime(2019, 11, 11, 23, 59, 59, tzinfo=UTC)


def mind(folder: Path, behaviors: str = BEHAVIORS, news: str = NEWS) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "behaviors.tsv").write_text(behaviors)
    (folder / "news.tsv").write_text(news)
    return folder


def test_clicks_histories_and_news(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checked = check(read(mind(tmp_path)), [], [])
    events = checked["interactions"].clean.to_pylist()
    assert [(e["user_id"], e["item_id"], e["event"]) for e in events] == [
        ("U1", "N3", "click"),
        ("U1", "N1", "history"),
        ("U1", "N2", "history"),
        ("U1", "N4", "click"),
        ("U1", "N1", "click"),
        ("U2", "N2", "click"),
        ("U3", "N4", "history"),
    ]
    assert events[0]["timestamp"] == datetime(2019, 11, 12, 9, 5, 58, tzinfo=UTC)
    assert [e["timestamp"].isoformat() for e in events[1:4]] == [
        "2019-11-11T23:59:57+00:00",
        "2019-11-11T23:59:58+00:00",
        "2019-11-11T23:59:59+00:00",
    ]
    assert events[5]["timestamp"] == datetime(2019, 11, 13, 0, 0, 1, tzinfo=UTC)
    assert checked["interactions"].rejected.num_rows == checked["items"].rejected.num_rows == 0
    first, _, third, _ = checked["items"].clean.to_pylist()
    assert (first["title"], first["text"]) == ('A "quoted" final', 'Five sets, one "ace')
    assert (first["l1_topics"], first["l2_topics"]) == (["sports"], ["tennis"])
    assert (third["l1_topics"], third["l2_topics"]) == (["news"], [])
    printed = capsys.readouterr().out
    assert (
        "4 impressions; 3 news shown and not clicked are left out; 3 clicks of the histories"
        in printed
    )


def test_the_contract_it_becomes_has_no_further_columns(tmp_path: Path) -> None:
    assert write_contract(mind(tmp_path / "mind"), tmp_path / "out", 0.0) == {
        "items": 4,
        "interactions": 7,
    }
    known = {"interactions": INTERACTIONS, "items": ITEMS}
    for name, columns in known.items():
        written = pq.read_schema(tmp_path / "out" / f"{name}.parquet").names
        assert written == [column.name for column in columns]


def entity(label: object, confidence: object = 1.0) -> dict[str, object]:
    more = {"Type": "P", "WikidataId": "Q1", "OccurrenceOffsets": [0], "SurfaceForms": ["x"]}
    return {"Label": label, "Confidence": confidence, **more}


def news(item: str, title: str, abstract: str) -> str:
    """A line with these two fields of entities."""
    return f"{item}\tsports\ttennis\tA final\tFive sets\thttps://x\t{title}\t{abstract}\n"


def test_entities_of_title_and_abstract_are_concepts(tmp_path: Path) -> None:
    lines = [
        news("N6", json.dumps([entity("Serena Williams", 0.95), entity('The "Open"')]), "[]"),
        news(
            "N5",
            json.dumps([entity("Paris", 0.9)]),
            json.dumps([entity("Paris", 0.99), entity("Clay", 0.91)]),
        ),
        news("N7", "", ""),
    ]
    folder = mind(tmp_path / "mind", news=NEWS + "".join(lines))
    assert write_contract(folder, tmp_path / "out", 0.0)["concepts"] == 4
    concepts = pq.read_table(tmp_path / "out" / "concepts.parquet")
    assert concepts.schema.names == [column.name for column in CONCEPTS]
    assert [tuple(row.values()) for row in concepts.to_pylist()] == [
        ("N5", "Clay", "entity", 0.91),
        ("N5", "Paris", "entity", 0.99),
        ("N6", "Serena Williams", "entity", 0.95),
        ("N6", 'The "Open"', "entity", 1.0),
    ]


def test_entities_that_cannot_be_read_are_rejected_as_written(tmp_path: Path) -> None:
    odd = [entity("Ace", "high"), entity(None), 7, entity("Deuce", 0.0), entity("Let")]
    lines = [
        news("N5", '[{"Label": "cut', "[]"),
        news("N6", '{"Label": "one"}', json.dumps([entity("Court")])),
        news("N7", json.dumps(odd), "[]"),
    ]
    concepts = check(read(mind(tmp_path, news=NEWS + "".join(lines))), [], [])["concepts"]
    assert concepts.clean["concept"].to_pylist() == ["Court", "Let"]
    assert sorted(
        (row["reason"], json.loads(row["content"])["item_id"])
        for row in concepts.rejected.to_pylist()
    ) == [
        ("Confidence is not a number", "N7"),
        ("the entities are not a JSON list of objects", "N5"),
        ("the entities are not a JSON list of objects", "N6"),
        ("the entity has no Label", "N7"),
        ("the entity has no Label", "N7"),
        ("weight is zero or negative", "N7"),
    ]
    told = " ".join(concepts.rejected["content"].to_pylist())
    assert all(written in told for written in ("cut", "one", "high", '"7"'))


def test_what_cannot_be_read_is_rejected_as_written(tmp_path: Path) -> None:
    behaviors = BEHAVIORS + (
        "5\tU4\tyesterday\tN1\tN1-1 N2-0\n"
        "6\tU5\t11/13/2019 2:00:00 PM\tN1\n"
        "7\tU6\t11/13/2019 2:00:00 PM\tN1\t\n"
        "8\tU7\t11/13/2019 2:00:00 PM\t\tN1-1 N2 N99-1\n"
    )
    folder = mind(tmp_path, behaviors, NEWS + "N5\tfood\tonly three\n")
    with (folder / "behaviors.tsv").open("ab") as file:
        file.write(b"9\tU8\t\xff\n")
    checked = check(read(folder), [], [])
    rejected = {
        row["reason"]: row["content"] for row in checked["interactions"].rejected.to_pylist()
    }
    assert rejected.keys() == {
        "the time is not like 11/13/2019 8:36:57 PM",
        "the line has not 5 fields separated by tabs",
        "the impression shows no news",
        "a shown news is not followed by -0 or -1",
        "the line is not UTF-8 text",
        "item_id is not among the items",
    }
    assert "yesterday" in rejected["the time is not like 11/13/2019 8:36:57 PM"]
    assert '"N2"' in rejected["a shown news is not followed by -0 or -1"]
    assert "xFF" in rejected["the line is not UTF-8 text"]
    assert '"N99"' in rejected["item_id is not among the items"]
    assert checked["interactions"].clean.num_rows == 7 + 1
    (news,) = checked["items"].rejected.to_pylist()
    assert news["reason"] == "the line has not 8 fields separated by tabs"
    assert "only three" in news["content"]


def test_both_files_count_and_an_empty_one_is_named(tmp_path: Path) -> None:
    folder = mind(tmp_path)
    before = fingerprint(folder)
    (folder / "entity_embedding.vec").write_text("Q1\t0.1\n")
    assert fingerprint(folder) == before
    (folder / "news.tsv").write_text(NEWS.replace("Bread", "Cake"))
    assert fingerprint(folder) != before
    (folder / "news.tsv").write_text("")
    with pytest.raises(UserError, match=r"news\.tsv is not readable"):
        read(folder)
    (folder / "news.tsv").unlink()
    with pytest.raises(
        UserError, match=r"(?s)found behaviors\.tsv.*MIND: behaviors\.tsv, news\.tsv"
    ):
        read(folder)
