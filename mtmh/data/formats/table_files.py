"""The contract's files in a folder: which belong to which table, in any of the formats that are read."""

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from mtmh.data.formats.text import TEXT, json_names, read_csv, select_json
from mtmh.errors import UserError

TABLES = ("interactions", "items", "concepts")
FORMATS = ("parquet", "csv", "tsv", "txt", "jsonl", "ndjson", "json")
NAME = re.compile(rf"({'|'.join(TABLES)})(.*?)(?:\.({'|'.join(FORMATS)})(\.gz)?)?", re.IGNORECASE | re.DOTALL)
PART = re.compile(r"[-_. ]?(?:part)?[-_. ]?\d+(?:[-_]of[-_]\d+)?", re.IGNORECASE)
FILE = re.compile(rf".*\.({'|'.join(FORMATS)})(\.gz)?", re.IGNORECASE | re.DOTALL)
NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def table_files(folder: Path) -> dict[str, list[Path]]:
    """The files of each table that the folder has: one file, its numbered parts, or all in a folder of its name.

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
        _only_one_kind(folder, entries, strays)
    return {name: files for name in TABLES if (files := [file for path in entries[name] for file in _inside(path)])}


def read_table(root: Path, files: list[Path]) -> tuple[pa.Table, bool]:
    """The rows of all files, and whether they are all text as written. `root`: a table's partitions lie below it.

    Raises UserError when a file cannot be read or its columns have other types than those of the first.
    """
    tables = [_read(path) for path in files]
    as_text = not _is_parquet(files[0])
    for position, path in enumerate(files):
        for name, value in _partition(path.relative_to(root)):
            if name not in tables[position].column_names:
                values = pa.repeat(pa.scalar(value, pa.string()), tables[position].num_rows)
                tables[position] = tables[position].append_column(name, values)
    try:
        # A single table may have a column twice: the contract says so better.
        whole = tables[0] if len(tables) == 1 else pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        names = ", ".join(path.name for path in files[:3])
        message = str(error).splitlines()[0]
        raise UserError(
            f"{root}: the parts of a table ({names}, ..) do not fit together: {message}. Write all alike."
        ) from None
    if len(files) > 1:
        print(f"{root}: {len(files)} files are read as one table, from {files[0].name} to {files[-1].name}", flush=True)
    return whole, as_text


def _only_one_kind(folder: Path, entries: dict[str, list[Path]], strays: list[Path]) -> None:
    """Raises UserError where a table would be read in part, or twice."""
    if strays:
        names = ", ".join(path.name for path in strays)
        raise UserError(
            f"data folder {folder}: {names}: not clear whether to read this. Move it away, or name it as a part, such"
            " as interactions_2.parquet, to have it read with the others."
        )
    for name, paths in entries.items():
        formats = {(path.is_dir(), "" if path.is_dir() else NAME.fullmatch(path.name)[3].lower()) for path in paths}  # type: ignore[index]
        whole = [path for path in paths if NAME.fullmatch(path.name)[2] == ""]  # type: ignore[index]
        if len(formats) > 1 or len(whole) > 1:
            raise UserError(
                f"data folder {folder}: {name} is there as {' and as '.join(path.name for path in paths)}. Keep one."
            )


def _inside(path: Path) -> Iterator[Path]:
    """The file, or the files of rows in the folder. Names that begin with _ or . are notes of who wrote it."""
    if path.is_file():
        yield path
        return
    for file in sorted(path.rglob("*")):
        hidden = any(part.startswith(("_", ".")) for part in file.relative_to(path).parts)
        if not hidden and file.is_file() and FILE.fullmatch(file.name):
            yield file


def _partition(path: Path) -> list[tuple[str, str | None]]:
    """Columns that stand in the folders' names, as Hive writes them: day=2024-01-01."""
    pairs = [part.partition("=") for part in path.parts[:-1] if "=" in part]
    return [(unquote(name), None if value == NO_PARTITION else unquote(value)) for name, _, value in pairs]


def _is_parquet(path: Path) -> bool:
    return ".parquet" in path.name.lower()


def _read(path: Path) -> pa.Table:
    if _is_parquet(path):
        return _read_parquet(path)
    if ".json" in path.name.lower() or ".ndjson" in path.name.lower():
        names = json_names(path)
        if not names:
            raise UserError(f"{path}: no line is a JSON object with fields. Write one object a line, no list of them.")
        broken = "case when broken then 'the line is not a JSON object' end as reason"
        raw = 'case when broken then raw end as "line.json"'
        return select_json(
            path, dict.fromkeys(names, TEXT), [], f"select * exclude (broken, raw), {broken}, {raw} from objects"
        )
    return read_csv(path)


def _read_parquet(path: Path) -> pa.Table:
    try:
        if path.name.lower().endswith(".gz"):
            with pa.input_stream(str(path), compression="gzip") as stream:
                return pq.ParquetFile(pa.BufferReader(stream.read())).read()
        with pq.ParquetFile(path) as file:
            return file.read()
    except (pa.ArrowException, OSError) as error:
        raise UserError(
            f"{path} is not a readable Parquet file ({str(error).splitlines()[0]}). Write it anew."
        ) from None
