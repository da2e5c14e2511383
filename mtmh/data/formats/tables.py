"""The contract's own form: interactions, and items and concepts where there are any, as Parquet, CSV or JSON Lines."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mtmh.data import contract
from mtmh.data.formats.form import Form, Source, as_source
from mtmh.data.formats.table_files import FILE, NAME, read_table, table_files
from mtmh.data.typed import typed
from mtmh.errors import UserError


def find(folder: Path) -> list[Path]:
    """The files of interactions, then those of the others; none without interactions."""
    files = table_files(folder)
    return [path for paths in files.values() for path in paths] if "interactions" in files else []


def read(paths: list[Path], columns: dict[str, str] | None = None) -> Source:
    """The tables, with the columns named as `columns` says (contract's name -> the files').

    Text of CSV and JSON becomes the contract's types. Without items, they are those of the interactions, and the run
    says so.
    """
    from mtmh.data.column_map import renamed

    folder = _folder(paths)
    files = table_files(folder)
    tables, as_text = {}, {}
    for name, parts in files.items():
        tables[name], as_text[name] = read_table(folder, parts)
    tables = renamed(tables, columns or {})
    tables = {
        name: typed(table, name, str(folder / files[name][0].name), as_text[name]) for name, table in tables.items()
    }
    if "items" not in tables:
        others = sorted(
            path.name for path in folder.iterdir() if FILE.fullmatch(path.name) and not NAME.fullmatch(path.name)
        )
        if others:
            raise UserError(f"{folder}/items.parquet: no such file. The folder has {', '.join(others)}: rename it.")
        print(
            f"{folder} has no items.parquet: items are those of the interactions, without text or topics.", flush=True
        )
        events = contract.conform(tables["interactions"], contract.INTERACTIONS, str(files["interactions"][0]))
        ids = pc.unique(events["item_id"])
        tables["items"] = pa.table({"item_id": ids.filter(pc.fill_null(pc.not_equal(ids, ""), False))})
        files["items"] = files["interactions"]
    return as_source(tables, files, frozenset({"line.json", *(f"{name} as written" for name in ALL)}))


ALL = {column.name for table in (contract.INTERACTIONS, contract.ITEMS, contract.CONCEPTS) for column in table}


def _folder(paths: list[Path]) -> Path:
    """The folder in which the first table's file, or folder of files, lies."""
    return next(path.parent for path in [paths[0], *paths[0].parents] if NAME.fullmatch(path.name) and _is_root(path))


def _is_root(path: Path) -> bool:
    return bool(table_files(path.parent))


FORM = Form(
    "the contract",
    "interactions.parquet, items.parquet (or .csv, .tsv, .jsonl, also .gz; or folders of parts)",
    find,
    read,
)
