"""Data folders: which form a folder is in, MovieLens as it is published, and writing the contract's
form.
"""

from datetime import UTC, datetime
from pathlib import Path
from zipfile import ZipFile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.small_log import MakeFolder, Rows

from mtmh.data.files import write_parquet
from mtmh.data.importers import check, fingerprint, read, write_contract
from mtmh.errors import UserError

RATINGS = """userId,movieId,rating,timestamp
1,1,4.0,964982703
1,3,0.5,964981247
2,1,5,964982224
"""
MOVIES = """movieId,title,genres
1,Toy Story (1995),Adventure|Animation|Children
3,"American President, The (1995)",Comedy
7,Nothing,(no genres listed)
"""
TAGS = """userId,movieId,tag,timestamp
2,1,"pixar, of course",1445714994
"""


def movielens(folder: Path, **files: str) -> Path:
    for name, text in ({"ratings": RATINGS, "movies": MOVIES} | files).items():
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.csv").write_text(text)
    return folder


def test_movielens_becomes_the_contract(tmp_path: Path, rows: Rows) -> None:
    counts = write_contract(movielens(tmp_path / "ml", tags=TAGS), tmp_path / "out", 0.0)
    assert counts == {"items": 3, "interactions": 3, "concepts": 1}
    assert not (tmp_path / "out" / "rejected.parquet").exists()
    assert rows(tmp_path / "out" / "interactions.parquet")[1] == {
        "user_id": "1",
        "item_id": "3",
        "timestamp": datetime(2000, 7, 30, 18, 20, 47, tzinfo=UTC),
        "event": "rating",
        "value": 0.5,
        "dwell_seconds": None,
        "arm": None,
    }
    items = rows(tmp_path / "out" / "items.parquet")
    assert items[1]["title"] == "American President, The (1995)"
    assert [item["l1_topics"] for item in items] == [
        ["Adventure", "Animation", "Children"],
        ["Comedy"],
        [],
    ]
    assert rows(tmp_path / "out" / "concepts.parquet") == [
        {"item_id": "1", "concept": "pixar, of course", "source": "tag", "weight": 1.0}
    ]


def test_posters_of_movielens_are_members_of_the_archive(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = movielens(tmp_path / "ml", keywords="movieId,concept\n7,nothing\n")
    before = fingerprint(folder)
    with ZipFile(folder / "posters.zip", "w") as archive:
        archive.writestr("posters/", "")
        archive.writestr("posters/7.jpg", b"seven")
        archive.writestr("posters/1.png", b"one")
    assert fingerprint(folder) != before
    tables = read(folder).tables
    paths = dict(
        zip(
            tables["items"]["item_id"].to_pylist(),
            tables["items"]["image_path"].to_pylist(),
            strict=True,
        )
    )
    assert paths == {"1": "posters.zip/posters/1.png", "3": None, "7": "posters.zip/posters/7.jpg"}
    assert tables["concepts"]["source"].to_pylist() == ["keyword"]
    write_contract(folder, tmp_path / "out", 0.0)
    assert f"images stay in {folder}" in capsys.readouterr().out
    (folder / "posters.zip").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"posters\.zip is not a readable zip archive"):
        read(folder)


def test_what_was_written_reads_back_the_same(tmp_path: Path) -> None:
    write_contract(movielens(tmp_path / "ml"), tmp_path / "once", 0.0)
    write_contract(tmp_path / "once", tmp_path / "twice", 0.0)
    for name in ("interactions", "items"):
        assert pq.read_table(tmp_path / "once" / f"{name}.parquet").equals(
            pq.read_table(tmp_path / "twice" / f"{name}.parquet")
        )


def test_numbers_that_are_none_are_rejected_as_written(tmp_path: Path) -> None:
    ratings = (
        RATINGS + "3,1,many,964982224\n3,3,2.5,yesterday\n3,7,,964982224\n3,99,1.0,964982224\n"
    )
    checked = check(read(movielens(tmp_path / "ml", ratings=ratings)), [], [])
    rejected = checked["interactions"].rejected.to_pylist()
    assert [(row["row"], row["reason"]) for row in rejected] == [
        (3, "rating is not a number"),
        (4, "timestamp is not a number"),
        (5, "rating is not a number"),
        (6, "item_id is not among the items"),
    ]
    assert '"many"' in rejected[0]["content"]
    assert '"yesterday"' in rejected[1]["content"]
    assert checked["interactions"].clean.num_rows == 3


def test_a_repeated_line_of_movies_is_read_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = movielens(
        tmp_path / "ml", movies=MOVIES + MOVIES.splitlines()[1] + "\n1,Other,Comedy\n"
    )
    checked = check(read(folder), [], [])["items"]
    assert "1 lines repeat an earlier line" in capsys.readouterr().out
    assert checked.clean["title"].to_pylist()[0] == "Toy Story (1995)"
    assert [row["reason"] for row in checked.rejected.to_pylist()] == [
        "item_id is there twice, the first row is kept"
    ]


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        (
            "userId,movieId,rating\n1,1,4.0\n",
            r"ratings\.csv: column 'timestamp' is missing; it has userId",
        ),
        (RATINGS + "1,2\n", r"ratings\.csv is not readable as CSV:.*1,2"),
        ("", r"ratings\.csv is not readable as CSV"),
        (RATINGS.splitlines()[0] + "\n", r"ratings\.csv has no rows"),
    ],
)
def test_a_broken_csv_is_named(tmp_path: Path, ratings: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        check(read(movielens(tmp_path / "ml", ratings=ratings)), [], [])


def test_a_folder_in_no_known_form_is_told_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").touch()
    with pytest.raises(
        UserError,
        match=r"(?s)found readme\.txt\..*interactions\.parquet.*behaviors\.tsv.*ratings\.csv",
    ):
        read(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(UserError, match="it is a file"):
        read(tmp_path / "readme.txt")


def test_interactions_alone_are_enough(make_folder: MakeFolder) -> None:
    folder = make_folder()
    (folder / "items.parquet").unlink()
    checked = check(read(folder), [], [])
    assert checked["items"].clean.num_rows == 30
    assert checked["interactions"].rejected.num_rows == 0


def test_a_misnamed_items_file_is_pointed_out(make_folder: MakeFolder) -> None:
    folder = make_folder()
    (folder / "items.parquet").rename(folder / "item.parquet")
    with pytest.raises(
        UserError, match=r"items\.parquet: no such file\. The folder has item\.parquet"
    ):
        read(folder)


def test_a_corrupt_file_is_named(make_folder: MakeFolder) -> None:
    folder = make_folder()
    (folder / "items.parquet").write_bytes(b"PAR1 nonsense")
    with pytest.raises(UserError, match=r"items\.parquet is not a readable Parquet file"):
        read(folder)


def test_further_columns_of_items_are_kept_as_features(
    make_folder: MakeFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder()
    items = pq.read_table(folder / "items.parquet").append_column("brand", pa.array(["b"] * 30))
    write_parquet(items.append_column("sizes", pa.array([[1]] * 30)), folder / "items.parquet")
    write_contract(folder, tmp_path / "out", 0.0)
    written = pq.read_table(tmp_path / "out" / "items.parquet")
    assert written.select(["price", "brand"]).equals(items.select(["price", "brand"]))
    assert "are left out: sizes" in capsys.readouterr().out


def test_the_source_is_never_written_over(make_folder: MakeFolder) -> None:
    folder = make_folder()
    with pytest.raises(UserError, match="folder to read from"):
        write_contract(folder, folder, 0.01)


def test_the_fingerprint_follows_the_content(make_folder: MakeFolder) -> None:
    folder = make_folder()
    before = fingerprint(folder)
    assert fingerprint(folder) == before
    (folder / "notes.txt").write_text("not data")
    assert fingerprint(folder) == before
    write_parquet(pa.table({"item_id": ["i00"], "concept": ["cat"]}), folder / "concepts.parquet")
    assert fingerprint(folder) != before


def test_blank_lines_and_other_times_of_movielens_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    header = RATINGS.splitlines()[0]
    expected = datetime(2000, 7, 30, 18, 45, 3, tzinfo=UTC)
    for number, moment in enumerate(
        ["964982703", "964982703000", "964982703.0", "2000-07-30 18:45:03"]
    ):
        folder = movielens(tmp_path / str(number), ratings=f"{header}\n1,1,4.0,{moment}\n\n   \n")
        assert read(folder).tables["interactions"]["timestamp"].to_pylist() == [expected]
    assert "taken for UTC" in capsys.readouterr().out


def test_a_quote_that_is_not_closed_is_shown_with_its_line(tmp_path: Path) -> None:
    movies = MOVIES + '8,"Open (1999),Comedy\n9,"Closed, The (1999)",Drama\n'
    with pytest.raises(
        UserError, match=r'(?i)line 5 has a quote that is not closed: 8,"Open \(1999\),Comedy'
    ):
        read(movielens(tmp_path / "ml", movies=movies))
    with pytest.raises(UserError, match="Line 5 has 2 fields, not 4: 1,2"):
        read(movielens(tmp_path / "short", ratings=RATINGS + "1,2\n"))
