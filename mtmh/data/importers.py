"""The door to data: a folder in any known form (mtmh/data/formats, one reader a form) to the contract's tables."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mtmh.data import contract, images
from mtmh.data.files import write_parquet
from mtmh.data.formats import amazon, kuairand, mind, movielens, tables, yelp
from mtmh.data.formats.format import Format, SourceTables
from mtmh.data.opened import opened
from mtmh.data.quarantine import Checked, check_concepts, check_interactions, check_items, set_aside
from mtmh.data.utf8 import as_utf8
from mtmh.errors import UserError

# The first that fits a folder is taken.
FORMATS = (
    tables.FORMAT,
    mind.FORMAT,
    movielens.FORMAT,
    amazon.FORMAT,
    kuairand.FORMAT,
    yelp.FORMAT,
)
TABLES = {
    "interactions": contract.INTERACTIONS,
    "items": contract.ITEMS,
    "concepts": contract.CONCEPTS,
}


def fingerprint(folder: Path, columns: dict[str, str] | None = None) -> str:
    """Sha256 of what `read` would read: content of files, names of columns, sizes of images.

    Raises UserError as `read` does.
    """
    digest = hashlib.sha256()
    with (
        redirect_stdout(StringIO()),
        _form(folder) as (_, paths, root, _),
    ):  # what is read is said by `read`
        for path in paths:
            with path.open("rb") as stream:
                digest.update(
                    str(path.relative_to(root)).encode()
                    + hashlib.file_digest(stream, "sha256").digest()
                )
        digest.update(images.fingerprint(root))
    if columns:
        digest.update(json.dumps(columns, sort_keys=True).encode())
    return digest.hexdigest()


def read(folder: Path, columns: dict[str, str] | None = None) -> SourceTables:
    """Read a data folder in whichever form it is; `columns` (contract's name -> the files') names columns.

    Raises UserError saying what was looked for if it is in none, or when `columns` do not fit.
    """
    with _form(folder) as (form, paths, _, lead):
        if form is tables.FORMAT:
            source = tables.read(paths, columns)
        elif columns:
            raise UserError(
                f"--columns: {folder} is in the form {form.name}, whose columns have fixed names. Leave it out."
            )
        else:
            source = form.read(paths)
    return _in_utf8(_images_below(source, lead))


def form_name(folder: Path) -> str:
    """What the form is called that the folder is in. Raises UserError as `read` does."""
    with redirect_stdout(StringIO()), _form(folder) as (form, *_):
        return form.name


def _in_utf8(source: SourceTables) -> SourceTables:
    """Every table's text as UTF-8; rows that held other bytes count as unreadable."""
    text, unreadable = {}, dict(source.unreadable)
    for name, table in source.tables.items():
        wanted = {column.name for column in TABLES[name] if not pa.types.is_floating(column.type)}
        text[name], reasons = as_utf8(table, wanted)
        if name in unreadable:
            reasons = pc.coalesce(unreadable[name], reasons)
        if reasons.null_count < len(reasons):
            unreadable[name] = reasons
    return replace(source, tables=text, unreadable=unreadable)


def _images_below(source: SourceTables, lead: str) -> SourceTables:
    """Paths of images that are relative to the folder, or archive, `lead` below the one that was named."""
    items = source.tables["items"]
    if (
        not lead
        or "image_path" not in items.column_names
        or not pa.types.is_string(items["image_path"].type)
    ):
        return source
    paths = pc.binary_join_element_wise(lead, items["image_path"], "")
    items = items.set_column(items.column_names.index("image_path"), "image_path", paths)
    return replace(source, tables={**source.tables, "items": items})


def check(
    source: SourceTables,
    id_features: list[str],
    float_features: list[str],
    reject_missing_ids: bool = True,
) -> dict[str, Checked]:
    """Check all tables of a source against the contract; the result has the same keys, items first.

    Columns that are neither in the contract nor declared as features are left out, and named.
    """
    tables, files, unreadable = source.tables, source.files, source.unreadable
    items = check_items(
        tables["items"], files["items"], id_features, float_features, unreadable.get("items")
    )
    interactions = check_interactions(
        tables["interactions"],
        files["interactions"],
        items,
        unreadable.get("interactions"),
        reject_missing_ids,
    )
    checked = {"items": items, "interactions": interactions}
    if "concepts" in tables:
        checked["concepts"] = check_concepts(
            tables["concepts"], files["concepts"], items, unreadable.get("concepts")
        )
    for name, result in checked.items():
        used = {*result.clean.column_names, *source.raw_columns}
        unused = [column for column in tables[name].column_names if column not in used]
        if unused:
            print(
                f"{name}: columns not in the contract nor declared as features are left out: {', '.join(unused)}"
            )
    return checked


def write_contract(folder: Path, out: Path, max_rejected_share: float) -> dict[str, int]:
    """Read `folder` in whichever form it is and write it as contract Parquet into `out`; return the rows per table.

    Further columns of the items are kept as features: text as id features, numbers as float features. Rejected rows go
    to `out`/rejected.parquet. Raises UserError as `read` and the checks do.
    """
    if out.resolve() == folder.resolve():
        raise UserError(f"{out} is the folder to read from. Give another one to write to.")
    source = read(folder)
    checked = check(source, *_features(source))
    set_aside(checked, out, max_rejected_share)
    for name, table in checked.items():
        write_parquet(table.clean, out / f"{name}.parquet")
    if checked["items"].clean["image_path"].null_count < checked["items"].clean.num_rows:
        print(
            f"images stay in {folder}: image_path is relative to it. Copy them beside items.parquet to use them there."
        )
    return {name: table.clean.num_rows for name, table in checked.items()}


def _features(source: SourceTables) -> tuple[list[str], list[str]]:
    """Columns of the items beyond the contract that can be id features, and those that can be float features."""
    known = {column.name for column in contract.ITEMS} | source.raw_columns
    further = [one for one in source.tables["items"].schema if one.name not in known]
    ids = [one.name for one in further if contract.accepts(pa.string(), one.type)]
    floats = [
        one.name
        for one in further
        if contract.accepts(pa.float64(), one.type) and one.name not in ids
    ]
    return ids, floats


@contextmanager
def _form(folder: Path) -> Iterator[tuple[Format, list[Path], Path, str]]:
    """The form that the folder is in, its files, the folder that they lie in, and what leads there from `folder`."""
    if not folder.is_dir():
        raise UserError(
            f"data folder {folder}: {'it is a file' if folder.exists() else 'no such folder'}. Give a folder."
        )
    with opened(folder, lambda path: any(form.find(path) for form in FORMATS)) as (root, lead):
        for form in FORMATS:
            paths = form.find(root)
            if paths:
                yield form, paths, root, lead
                return
    names = sorted(path.name for path in folder.iterdir())
    listed = ", ".join(names[:20]) + (f" and {len(names) - 20:,} more" if len(names) > 20 else "")
    forms = "".join(f"\n  {form.name}: {form.files}" for form in FORMATS)
    raise UserError(
        f"data folder {folder}: found {listed or 'nothing'}. Give a folder in one of these forms:{forms}"
    )
