"""The contract's own format: interactions, and items and concepts where there are any, as Parquet,
CSV or JSON Lines. A table is one file, its numbered parts, or a folder of files.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mtmh.data import contract
from mtmh.data.formats.format import Format, SourceTables, source_tables
from mtmh.data.formats.text import TEXT, json_names, read_csv, select_json
from mtmh.data.typed import typed
from mtmh.errors import UserError

TABLES = ("interactions", "items", "concepts")
SUFFIX = r"\.(parquet|csv|tsv|txt|jsonl|ndjson|json)(\.gz)?"
FLAGS = re.IGNORECASE | re.DOTALL
NAME = re.compile(rf"({'|'.join(TABLES)})(.*?)(?:{SUFFIX})?", FLAGS)
PART = re.compile(r"[-_. ]?(?:part)?[-_. ]?\d+(?:[-_]of[-_]\d+)?", re.IGNORECASE)
FILE = re.compile(rf".*{SUFFIX}", FLAGS)
NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
ALL_COLUMNS = {
    column.name
    for table in (contract.INTERACTIONS, contract.ITEMS, contract.CONCEPTS)
    for column in table
}


def find(folder: Path) -> list[Path]:
    """The files of interactions, then those of the others; none without interactions."""
    files = table_files(folder)
    return [path for paths in files.values() for path in paths] if "interactions" in files else []


def read(paths: list[Path], columns: dict[str, str] | None = None) -> SourceTables:
    """The tables, with the columns named as `columns` says (contract's name -> the files').

    Text of CSV and JSON becomes the contract's types. Without items, they are those of the
    interactions, and the run says so. Raises UserError where a file could be the items'.
    """
    from mtmh.data.column_map import renamed

    # The first table's file, or the folder of its files, lies in the data folder.
    folder = next(
        path.parent
        for path in [paths[0], *paths[0].parents]
        if NAME.fullmatch(path.name) and table_files(path.parent)
    )
    files = table_files(folder)
    tables, as_text = {}, {}
    for name, parts in files.items():
        tables[name], as_text[name] = read_table(folder, parts)
    # Columns get the contract's names first: the types depend on the name.
    tables = renamed(tables, columns or {})
    for name, table in tables.items():
        tables[name] = typed(table, name, str(folder / files[name][0].name), as_text[name])
    # The items that are engaged with, unless a file of another name may be the items.
    if "items" not in tables:
        names = sorted(path.name for path in folder.iterdir())
        others = [name for name in names if FILE.fullmatch(name) and not NAME.fullmatch(name)]
        if others:
            raise UserError(
                f"{folder}/items.parquet: no such file. The folder has {', '.join(others)}: rename"
                " it."
            )
        print(
            f"{folder} has no items.parquet: items are those of the interactions, without text or"
            " topics.",
            flush=True,
        )
        file = str(files["interactions"][0])
        engaged = contract.conform(tables["interactions"], contract.INTERACTIONS, file)
        ids = pc.unique(engaged["item_id"])
        ids = ids.filter(pc.fill_null(pc.not_equal(ids, ""), False))
        tables["items"] = pa.table({"item_id": ids})
        files["items"] = files["interactions"]
    raw_columns = frozenset({"line.json", *(f"{name} as written" for name in ALL_COLUMNS)})
    return source_tables(tables, files, raw_columns)


def table_files(folder: Path) -> dict[str, list[Path]]:
    """The files of each table that the folder has.

    Raises UserError naming files of which it is not clear whether they belong to a table.
    """
    entries: dict[str, list[Path]] = {name: [] for name in TABLES}
    strays: list[Path] = []
    for path in sorted(folder.iterdir()):
        match = NAME.fullmatch(path.name)
        if not match or not (path.is_dir() or match[3]):
            continue
        numbered = not match[2] or PART.fullmatch(match[2])
        (entries[match[1].lower()] if numbered else strays).append(path)
    if entries["interactions"]:
        _check_one_kind(folder, entries, strays)
    files = {name: [file for path in entries[name] for file in _inside(path)] for name in TABLES}
    return {name: paths for name, paths in files.items() if paths}


def _check_one_kind(folder: Path, entries: dict[str, list[Path]], strays: list[Path]) -> None:
    """Raises UserError where a table would be read in part, or twice."""
    # Left out in silence, they may be half of the log.
    if strays:
        names = ", ".join(path.name for path in strays)
        raise UserError(
            f"data folder {folder}: {names}: not clear whether to read this. Move it away, or name"
            " it as a part, such as interactions_2.parquet, to have it read with the others."
        )
    # Of two kinds, or whole twice: most likely the same rows again. Numbered parts may be many.
    for name, paths in entries.items():
        kinds, whole = set(), 0
        for path in paths:
            _, part, suffix, _ = NAME.fullmatch(path.name).groups()  # type: ignore[union-attr]
            kinds.add("folder" if path.is_dir() else suffix.lower())
            whole += part == ""
        if len(kinds) > 1 or whole > 1:
            listed = " and as ".join(path.name for path in paths)
            raise UserError(f"data folder {folder}: {name} is there as {listed}. Keep one.")


def _inside(path: Path) -> Iterator[Path]:
    """The file, or the files of rows in the folder. Names in _ or . are notes of its writer."""
    if path.is_file():
        yield path
        return
    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith(("_", ".")) for part in file.relative_to(path).parts)
        if not hidden and file.is_file() and FILE.fullmatch(file.name):
            yield file


def read_table(root: Path, files: list[Path]) -> tuple[pa.Table, bool]:
    """The rows of all files, and whether they are all text as written.

    `root`: a table's partitions lie below it. Raises UserError when a file cannot be read or its
    columns have other types than those of the first.
    """
    tables = []
    for path in files:
        table = _read_file(path)
        # Columns may stand in the folders' names, as Hive writes them: day=2024-01-01.
        for folder in path.relative_to(root).parts[:-1]:
            name, equals, value = (unquote(part) for part in folder.partition("="))
            if equals and name not in table.column_names:
                text = pa.scalar(None if value == NO_PARTITION else value, pa.string())
                table = table.append_column(name, pa.repeat(text, table.num_rows))
        tables.append(table)
    try:
        # A single table may have a column twice: the contract has the better message for it.
        whole = tables[0]
        if len(tables) > 1:
            whole = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        names = ", ".join(path.name for path in files[:3])
        raise UserError(
            f"{root}: the parts of a table ({names}, ..) do not fit together:"
            f" {str(error).splitlines()[0]}. Write all alike."
        ) from None
    if len(files) > 1:
        span = f"from {files[0].name} to {files[-1].name}"
        print(f"{root}: {len(files)} files are read as one table, {span}", flush=True)
    return whole, ".parquet" not in files[0].name.lower()


def _read_file(path: Path) -> pa.Table:
    lower = path.name.lower()
    if ".parquet" in lower:
        try:
            if lower.endswith(".gz"):
                with pa.input_stream(str(path), compression="gzip") as stream:
                    return pq.ParquetFile(pa.BufferReader(stream.read())).read()
            with pq.ParquetFile(path) as file:
                return file.read()
        except (pa.ArrowException, OSError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"{path} is not a readable Parquet file ({reason}). Write it anew."
            ) from None
    if ".json" not in lower and ".ndjson" not in lower:
        return read_csv(path)
    # JSON Lines: the fields of all objects together are the columns.
    names = json_names(path)
    if not names:
        raise UserError(
            f"{path}: no line is a JSON object with fields. Write one object a line, no list of"
            " them."
        )
    sql = """
        select * exclude (broken, raw),
            case when broken then 'the line is not a JSON object' end as reason,
            case when broken then raw end as "line.json"
        from objects
    """
    return select_json(path, dict.fromkeys(names, TEXT), [], sql)


FORMAT = Format(
    "the contract",
    "interactions.parquet, items.parquet (or .csv, .tsv, .jsonl, also .gz; or folders of parts)",
    find,
    read,
)
