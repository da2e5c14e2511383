"""The contract's tables as people have them: CSV, parts, partitions, archives, other names of
columns and encodings.
"""

import gzip
import shutil
from pathlib import Path
from zipfile import ZipFile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.small_log import MakeFolder, small_tables

from mtmh.data.importers import check, fingerprint, read
from mtmh.errors import UserError

EVENTS = "user_id,item_id,timestamp\n007,01,1700000000\nu2,1e5,1700000060\n\n   \n"
ITEMS = "item_id,title,l2_topics\n01,Café,a|b\n1e5,Tea,a\n"


def csv_folder(
    folder: Path, events: str = EVENTS, items: str = ITEMS, encoding: str = "utf-8"
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "interactions.csv").write_text(events, encoding=encoding)
    (folder / "items.csv").write_text(items, encoding=encoding)
    return folder


def clean(folder: Path, columns: dict[str, str] | None = None) -> tuple[list[dict], list[dict]]:
    """The rows of interactions and items, after the checks, none rejected."""
    checked = check(read(folder, columns), [], [])
    assert [table.rejected.num_rows for table in checked.values()] == [0, 0]
    return checked["interactions"].clean.to_pylist(), checked["items"].clean.to_pylist()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_csv_is_read_in_any_encoding_and_with_any_separator(
    tmp_path: Path, encoding: str, separator: str
) -> None:
    events, items = (text.replace("a|b", "a").replace(",", separator) for text in (EVENTS, ITEMS))
    events, items = clean(csv_folder(tmp_path, events, items, encoding))
    assert [(event["user_id"], event["item_id"]) for event in events] == [
        ("007", "01"),
        ("u2", "1e5"),
    ]
    assert str(events[0]["timestamp"]) == "2023-11-14 22:13:20+00:00"
    assert items[0]["title"] == "Café"


@pytest.mark.parametrize(
    ("written", "unit"),
    [
        ("1700000000", "seconds"),
        ("1700000000.0", "seconds"),
        ("1700000000000", "milliseconds"),
        ("1700000000000000", "microseconds"),
        ("1700000000000000000", "nanoseconds"),
        ("2023-11-14 22:13:20", "dates and times without a zone, taken for UTC"),
        ("2023-11-14T22:13:20Z", "dates and times"),
        ("2023-11-15 00:13:20+02:00", "dates and times"),
    ],
)
def test_times_are_read_by_their_size_and_it_is_said(
    tmp_path: Path, written: str, unit: str, capsys: pytest.CaptureFixture[str]
) -> None:
    events, _ = clean(csv_folder(tmp_path, f"user_id,item_id,timestamp\nu,01,{written}\n"))
    assert str(events[0]["timestamp"]) == "2023-11-14 22:13:20+00:00"
    assert f"timestamp: read as {unit}" in capsys.readouterr().out


def test_what_is_no_time_or_number_is_rejected_as_written(tmp_path: Path) -> None:
    events = "user_id,item_id,timestamp,value\nu,01,1700000000,2\nv,01,soon,3\nw,01,1700000001,many\nx,01,1700000002,\n"
    checked = check(read(csv_folder(tmp_path, events)), [], [])["interactions"]
    assert checked.clean["value"].to_pylist() == [2.0, 1.0]
    rejected = checked.rejected.to_pylist()
    assert [row["reason"] for row in rejected] == [
        "timestamp is not a time",
        "value is not a number",
    ]
    assert '"soon"' in rejected[0]["content"]
    assert '"many"' in rejected[1]["content"]


def test_columns_of_other_names_are_mapped_and_part_of_the_fingerprint(tmp_path: Path) -> None:
    folder = csv_folder(tmp_path, EVENTS.replace("user_id,item_id,timestamp", "uid,movieId,ts"))
    columns = {"user_id": "uid", "interactions.item_id": "movieId", "timestamp": "ts"}
    events, _ = clean(folder, columns)
    assert events[0]["user_id"] == "007"
    assert (
        len(
            {
                fingerprint(folder),
                fingerprint(folder, columns),
                fingerprint(folder, {"user_id": "ts"}),
            }
        )
        == 3
    )


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"user_id": "UserID"},
            r"no column 'UserID' \(did you mean user_id\?\)\. interactions has user_id, item_id",
        ),
        ({"userid": "user_id"}, r"the contract has no 'userid' \(did you mean user_id"),
        ({"concepts.concept": "title"}, r"no column 'title'"),
    ],
)
def test_a_wrong_name_lists_the_columns(
    tmp_path: Path, columns: dict[str, str], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        read(csv_folder(tmp_path), columns)


@pytest.mark.parametrize("form", ["gz", "zip", "nested", "case", "tsv", "jsonl", "beside parquet"])
def test_the_same_rows_wherever_they_lie(tmp_path: Path, form: str) -> None:
    expected = clean(csv_folder(tmp_path / "plain"))
    folder = csv_folder(tmp_path / "other" / ("inner" if form == "nested" else ""))
    paths = [folder / "interactions.csv", folder / "items.csv"]
    if form == "gz":
        for path in paths:
            path.with_suffix(".csv.gz").write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    if form == "zip":
        with ZipFile(folder / "data.zip", "w") as archive:
            for path in paths:
                archive.write(path, f"data/{path.name}")
                path.unlink()
    if form == "case":
        paths[0].rename(folder / "Interactions.CSV")
    if form == "tsv":
        paths[1].write_text(ITEMS.replace(",", "\t"))
        paths[1].rename(folder / "items.tsv")
    if form == "jsonl":
        paths[1].unlink()
        lines = '{"item_id": "01", "title": "Café", "l2_topics": ["a", "b"]}\n'
        (folder / "items.jsonl").write_text(
            lines + '{"title": "Tea", "item_id": "1e5", "l2_topics": ["a"]}\n'
        )
    if form == "beside parquet":
        pq.write_table(check(read(folder), [], [])["items"].clean, folder / "items.parquet")
        paths[1].unlink()
    assert clean(tmp_path / "other") == expected


@pytest.mark.parametrize(
    "name", ["interactions/part-{}.parquet", "interactions.parquet/day={}/a.parquet"]
)
def test_folders_of_parts_are_read_whole(make_folder: MakeFolder, name: str) -> None:
    folder = make_folder()
    events = pq.read_table(folder / "interactions.parquet")
    (folder / "interactions.parquet").unlink()
    for number in range(2):
        path = folder / name.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(events.slice(number * 100, 100), path)
    (folder / name.partition("/")[0] / "_SUCCESS").touch()
    assert check(read(folder), [], [])["interactions"].clean.num_rows == 200


def test_a_second_part_beside_the_file_is_read(make_folder: MakeFolder) -> None:
    folder = make_folder()
    events = pq.read_table(folder / "interactions.parquet")
    before = fingerprint(folder)
    pq.write_table(events.slice(0, 100), folder / "interactions.parquet")
    pq.write_table(events.slice(100), folder / "interactions_2.parquet")
    assert check(read(folder), [], [])["interactions"].clean.num_rows == 200
    assert fingerprint(folder) != before


@pytest.mark.parametrize(
    "stray", ["interactions (1).parquet", "items_old.parquet", "interactions.csv"]
)
def test_what_may_belong_to_a_table_is_refused_by_name(make_folder: MakeFolder, stray: str) -> None:
    folder = make_folder()
    shutil.copy(folder / "items.parquet", folder / stray)
    with pytest.raises(UserError) as caught:
        read(folder)
    assert stray in str(caught.value)


def test_files_without_rows_of_fields_are_one_message(tmp_path: Path) -> None:
    folder = csv_folder(tmp_path, "user_id,user_id,item_id,timestamp\nu,u,01,1700000000\n")
    with pytest.raises(UserError, match="'user_id' is there 2 times"):
        check(read(folder), [], [])
    (folder / "interactions.csv").unlink()
    (folder / "interactions.json").write_text('[{"user_id": "u"}]\n')
    with pytest.raises(UserError, match="Write one object a line"):
        read(folder)


def test_topics_in_one_text_are_split(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, written in enumerate(["a|b", "a;b", "\"['a', 'b']\"", '"[""a"", ""b""]"']):
        _, items = clean(
            csv_folder(tmp_path / str(number), items=f"item_id,l2_topics\n01,{written}\n1e5,\n")
        )
        assert [item["l2_topics"] for item in items] == [["a", "b"], []]
        assert "l2_topics is text, read as lists" in capsys.readouterr().out
    clean(csv_folder(tmp_path, items='item_id,l2_topics\n01,"a,b"\n1e5,a\n'))
    assert "hold ','" in capsys.readouterr().out
    with pytest.raises(UserError, match="is no list"):
        read(csv_folder(tmp_path, items="item_id,l2_topics\n01,['a' 'b']\n1e5,['a']\n"))


def test_lists_of_one_text_are_split_at_bars(make_folder: MakeFolder) -> None:
    folder = make_folder(items={"l2_topics": pa.array([["a|b"]] * 30)})
    assert read(folder).tables["items"]["l2_topics"].to_pylist() == [["a", "b"]] * 30


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ("{}.0", "'.0' at the end"),
        ("00{}", "leading zeros"),
        ("{} ", "blanks"),
        ("I{}", "letter case"),
    ],
)
def test_ids_that_nearly_meet_are_told_what_differs(
    make_folder: MakeFolder, change: str, difference: str
) -> None:
    lead = "i" if change.startswith("I") else ""
    folder = make_folder(items={"item_id": pa.array([f"{lead}{n + 1}" for n in range(30)])})
    events = pq.read_table(folder / "interactions.parquet")
    ids = pa.array([change.format(n % 30 + 1) for n in range(200)])
    pq.write_table(events.set_column(1, "item_id", ids), folder / "interactions.parquet")
    reasons = set(check(read(folder), [], [])["interactions"].rejected["reason"].to_pylist())
    assert len(reasons) == 1
    assert difference in reasons.pop()


@pytest.mark.parametrize("kind", ["string", "binary", "list", "csv"])
def test_bytes_that_are_no_utf8_are_rejected_and_shown(make_folder: MakeFolder, kind: str) -> None:
    folder = make_folder()
    items = pq.read_table(folder / "items.parquet")
    raw = pa.array([b"R\xc9UNION", *(f"caf\u00e9 {n}".encode() for n in range(29))])
    name = "l2_topics" if kind == "list" else "title"
    values = {"string": raw.view(pa.string()), "binary": raw, "csv": raw.view(pa.string())}.get(
        kind
    )
    if values is None:
        values = pa.ListArray.from_arrays(pa.array(range(31), pa.int32()), raw.view(pa.string()))
    items = items.set_column(items.column_names.index(name), name, values)
    pq.write_table(items, folder / "items.parquet")
    if kind == "csv":
        (folder / "items.parquet").unlink()
        lines = [f"i{n:02d},".encode() + title for n, title in enumerate(raw.to_pylist())]
        (folder / "items.csv").write_bytes(b"\n".join([b"item_id,title", *lines]))
    rejected = check(read(folder), [], [])["items"].rejected.to_pylist()
    assert [(row["row"], row["reason"]) for row in rejected] == [
        (0, f"{name} holds bytes that are no UTF-8")
    ]
    assert r"R\\xc9UNION" in rejected[0]["content"]


def test_nan_of_an_optional_column_is_missing(make_folder: MakeFolder) -> None:
    nan = pa.array([float("nan")] * 200)
    events = (
        small_tables()["interactions"].append_column("dwell_seconds", nan).append_column("arm", nan)
    )
    folder = make_folder(events.set_column(4, "value", nan), items={"l1_topics": nan[:30]})
    events, items = clean(folder)
    assert {(event["value"], event["dwell_seconds"], event["arm"]) for event in events} == {
        (1.0, None, None)
    }
    assert {tuple(item["l1_topics"]) for item in items} == {()}
