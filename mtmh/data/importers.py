"""Readers of the forms that data comes in: a folder of contract Parquet, and the public MovieLens CSV files."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from mtmh.data import contract, images
from mtmh.data.files import write_parquet
from mtmh.data.quarantine import Checked, check_concepts, check_interactions, check_items, set_aside
from mtmh.errors import UserError


@dataclass(frozen=True)
class Source:
    """Tables as read, not yet checked. Keys of the dicts: interactions, items, concepts."""

    tables: dict[str, pa.Table]
    files: dict[str, str]  # where each table came from, for messages
    unreadable: dict[str, pa.Array] = field(default_factory=dict)  # reason per row, null = could be read
    as_written: frozenset[str] = frozenset()  # columns of the source's own text, for rejected rows alone


def fingerprint(folder: Path) -> str:
    """Sha256 over names and content of the files that `read` would read, and names and sizes of the items' images.

    Raises UserError as `read` does.
    """
    digest = hashlib.sha256()
    for path in _files(folder):
        with path.open("rb") as stream:
            digest.update(path.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    digest.update(images.fingerprint(folder))
    return digest.hexdigest()


def read(folder: Path) -> Source:
    """Read a data folder in whichever form it is. Raises UserError saying what was looked for if it is in none."""
    return _form(folder)[1](folder)


def check(source: Source, id_features: list[str], float_features: list[str]) -> dict[str, Checked]:
    """Check all tables of a source against the contract; the result has the same keys, items first.

    Columns that are neither in the contract nor declared as features are left out, and named.
    """
    tables, files, unreadable = source.tables, source.files, source.unreadable
    items = check_items(tables["items"], files["items"], id_features, float_features, unreadable.get("items"))
    interactions = check_interactions(
        tables["interactions"], files["interactions"], items, unreadable.get("interactions")
    )
    checked = {"items": items, "interactions": interactions}
    if "concepts" in tables:
        checked["concepts"] = check_concepts(tables["concepts"], files["concepts"], items, unreadable.get("concepts"))
    for name, result in checked.items():
        used = {*result.clean.column_names, *source.as_written}
        unused = [column for column in tables[name].column_names if column not in used]
        if unused:
            print(f"{name}: columns not in the contract nor declared as features are left out: {', '.join(unused)}")
    return checked


def write_contract(folder: Path, out: Path, max_rejected_share: float) -> dict[str, int]:
    """Read `folder` in whichever form it is and write it as contract Parquet into `out`; return the rows per table.

    Further columns of the items are kept as features: text as id features, numbers as float features. Rejected rows go
    to `out`/rejected.parquet. Raises UserError as `read` and the checks do.
    """
    if out.resolve() == folder.resolve():
        raise UserError(f"{out} is the folder to read from. Give another one to write to.")
    source = read(folder)
    checked = check(source, *_features(source.tables["items"]))
    set_aside(checked, out, max_rejected_share)
    for name, table in checked.items():
        write_parquet(table.clean, out / f"{name}.parquet")
    if checked["items"].clean["image_path"].null_count < checked["items"].clean.num_rows:
        print(
            f"images stay in {folder}: image_path is relative to it. Copy them beside items.parquet to use them there."
        )
    return {name: table.clean.num_rows for name, table in checked.items()}


def _features(items: pa.Table) -> tuple[list[str], list[str]]:
    """Columns beyond the contract that can be id features, and those that can be float features."""
    known = {column.name for column in contract.ITEMS}
    further = [one for one in items.schema if one.name not in known]
    ids = [one.name for one in further if contract.accepts(pa.string(), one.type)]
    floats = [one.name for one in further if contract.accepts(pa.float64(), one.type) and one.name not in ids]
    return ids, floats


def _form(folder: Path) -> tuple[tuple[str, ...], Callable[[Path], Source]]:
    """The files of the folder's form (those that must be there first) and its reader."""
    if not folder.is_dir():
        raise UserError(
            f"data folder {folder}: {'it is a file' if folder.exists() else 'no such folder'}. Give a folder."
        )
    if (folder / "interactions.parquet").is_file():
        return ("interactions.parquet", "items.parquet", "concepts.parquet"), _read_parquet
    if (folder / "ratings.csv").is_file() and (folder / "movies.csv").is_file():
        return ("ratings.csv", "movies.csv", "keywords.csv", "tags.csv", images.POSTERS), _read_movielens
    found = ", ".join(sorted(path.name for path in folder.iterdir())) or "nothing"
    raise UserError(
        f"data folder {folder}: looked for interactions.parquet and items.parquet (the contract), or ratings.csv and"
        f" movies.csv (MovieLens); found {found}. Give a folder in one of these forms."
    )


def _files(folder: Path) -> list[Path]:
    names, _ = _form(folder)
    return [folder / name for name in names if (folder / name).is_file()]


def _read_parquet(folder: Path) -> Source:
    paths = {path.stem: path for path in _files(folder)}
    tables = {name: contract.read_parquet(path) for name, path in paths.items()}
    files = {name: str(path) for name, path in paths.items()}
    if "items" not in tables:
        others = sorted(path.name for path in folder.glob("*.parquet") if path not in paths.values())
        if others:
            raise UserError(f"{folder}/items.parquet: no such file. The folder has {', '.join(others)}: rename it.")
        print(
            f"{folder} has no items.parquet: items are those of the interactions, without text or topics.", flush=True
        )
        ids = pc.unique(
            contract.conform(tables["interactions"], contract.INTERACTIONS, files["interactions"])["item_id"]
        )
        tables["items"] = pa.table({"item_id": ids.filter(pc.fill_null(pc.not_equal(ids, ""), False))})
        files["items"] = files["interactions"]
    return Source(tables, files)


def _read_movielens(folder: Path) -> Source:
    """Genres are the only topics that MovieLens has: they stand at both levels, so that L1 and L2 relevance agree."""
    ratings = _read_csv(folder / "ratings.csv", ["userId", "movieId", "rating", "timestamp"])
    movies = _read_once(folder / "movies.csv", ["movieId", "title", "genres"])
    value, bad_value = _parse(ratings["rating"], r"^-?\d+(\.\d+)?$", pa.float64())
    seconds, bad_time = _parse(ratings["timestamp"], r"^-?\d{1,12}$", pa.int64())
    genres = pc.split_pattern(movies["genres"], "|")
    genres = pc.if_else(pc.equal(movies["genres"], "(no genres listed)"), pa.scalar([], genres.type), genres)
    interactions = {
        "user_id": ratings["userId"],
        "item_id": ratings["movieId"],
        "timestamp": seconds.cast(pa.timestamp("s", tz="UTC")),
        "event": pa.repeat("rating", ratings.num_rows),
        "value": value,
        "rating.csv": ratings["rating"],  # as written, so that a rejected row can be found again
        "timestamp.csv": ratings["timestamp"],
    }
    tables = {
        "interactions": pa.table(interactions),
        "items": pa.table(
            {
                "item_id": movies["movieId"],
                "title": movies["title"],
                "image_path": images.posters(folder, movies["movieId"]),
                "l1_topics": genres,
                "l2_topics": genres,
            }
        ),
    }
    files = {"interactions": str(folder / "ratings.csv"), "items": str(folder / "movies.csv")}
    for name, column, kind in (("keywords.csv", "concept", "keyword"), ("tags.csv", "tag", "tag")):
        if "concepts" not in tables and (folder / name).is_file():
            concepts = _read_csv(folder / name, ["movieId", column])
            source = pa.repeat(kind, concepts.num_rows)
            tables["concepts"] = pa.table(
                {"item_id": concepts["movieId"], "concept": concepts[column], "source": source}
            )
            files["concepts"] = str(folder / name)
    reasons = pc.coalesce(_reason(bad_value, "rating is not a number"), _reason(bad_time, "timestamp is not a number"))
    return Source(tables, files, {"interactions": reasons}, frozenset({"rating.csv", "timestamp.csv"}))


def _reason(bad: pa.ChunkedArray, reason: str) -> pa.ChunkedArray:
    return pc.if_else(bad, reason, pa.scalar(None, pa.string()))


def _parse(text: pa.ChunkedArray, pattern: str, kind: pa.DataType) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """The text as numbers, null where it is none, and the mask of those rows."""
    text = pc.utf8_trim_whitespace(text)
    good = pc.match_substring_regex(text, pattern)
    return pc.if_else(good, text, pa.scalar(None, pa.string())).cast(kind), pc.invert(good)


def _read_once(path: Path, columns: list[str]) -> pa.Table:
    """As `_read_csv`, but a line that repeats an earlier one word for word is read once, and the run says so."""
    table = _read_csv(path, columns)
    once = table.group_by(columns, use_threads=False).aggregate([]).select(columns)
    if once.num_rows < table.num_rows:
        print(
            f"{path}: {table.num_rows - once.num_rows:,} lines repeat an earlier line, they are read once", flush=True
        )
    return once


def _read_csv(path: Path, columns: list[str]) -> pa.Table:
    """The named columns, all as text. Raises UserError naming a missing column or the line that cannot be read."""
    options = csv.ConvertOptions(column_types=dict.fromkeys(columns, pa.string()))
    try:
        table = csv.read_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True), convert_options=options)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} is not readable as CSV: {error}. Mend or remove that line.") from None
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        found = ", ".join(table.column_names)
        raise UserError(f"{path}: column {missing[0]!r} is missing; it has {found}. Give the file as MovieLens has it.")
    return table.select(columns)
