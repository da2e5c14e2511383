"""Reading a data folder, in any format of mtmh/data/formats, as the contract's tables."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

import pyarrow as pa
import pyarrow.compute as pc

from mtmh.data import contract, images
from mtmh.data.files import write_parquet
from mtmh.data.formats import amazon, kuairand, mind, movielens, tables, yelp
from mtmh.data.formats.format import Format, SourceTables
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


def fingerprint(folder: Path, columns: dict[str, str] | None = None) -> str:
    """Sha256 of what `read` would read: content of files, names of columns, sizes of images.

    Raises UserError as `read` does.
    """
    digest = hashlib.sha256()
    # `read` prints what is read: here it stays silent.
    with redirect_stdout(StringIO()), _recognized(folder) as (_, paths, root, _):
        for path in paths:
            digest.update(str(path.relative_to(root)).encode())
            with path.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        digest.update(images.fingerprint(root))
    if columns:
        digest.update(json.dumps(columns, sort_keys=True).encode())
    return digest.hexdigest()


def read(folder: Path, columns: dict[str, str] | None = None) -> SourceTables:
    """Read a data folder in whichever format it is, its text as UTF-8.

    `columns` (contract's name -> the files') names columns. Rows that held other bytes than UTF-8
    count as unreadable. Raises UserError saying what was looked for if the folder is in no format,
    or when `columns` do not fit.
    """
    with _recognized(folder) as (form, paths, _, prefix):
        if form is tables.FORMAT:
            source = tables.read(paths, columns)
        elif columns:
            raise UserError(
                f"--columns: {folder} is in the form {form.name}, whose columns have fixed names."
                " Leave it out."
            )
        else:
            source = form.read(paths)
    text, unreadable = {}, dict(source.unreadable)
    for name, table in source.tables.items():
        # Paths of images are relative to the folder, or archive, below the one that was named.
        names = table.column_names if name == "items" and prefix else []
        if "image_path" in names and pa.types.is_string(table["image_path"].type):
            below = pc.binary_join_element_wise(prefix, table["image_path"], "")
            table = table.set_column(names.index("image_path"), "image_path", below)
        columns_of_text = {
            column.name for column in contract.TABLES[name] if not pa.types.is_floating(column.type)
        }
        text[name], reasons = as_utf8(table, columns_of_text)
        if name in unreadable:
            reasons = pc.coalesce(unreadable[name], reasons)
        if reasons.null_count < len(reasons):
            unreadable[name] = reasons
    return replace(source, tables=text, unreadable=unreadable)


def form_name(folder: Path) -> str:
    """The name of the format that the folder is in. Raises UserError as `read` does."""
    with redirect_stdout(StringIO()), _recognized(folder) as (form, *_):
        return form.name


def check(
    source: SourceTables,
    id_features: list[str],
    float_features: list[str],
    reject_missing_ids: bool = True,
) -> dict[str, Checked]:
    """Check all tables of a source against the contract; the result has the same keys, items first.

    Columns that are neither in the contract nor declared as features are left out, and named.
    """
    raw, files, unreadable = source.tables, source.files, source.unreadable
    # Items first: the other tables' ids must be among those that are left of them.
    items = check_items(
        raw["items"], files["items"], id_features, float_features, unreadable.get("items")
    )
    interactions = check_interactions(
        raw["interactions"],
        files["interactions"],
        items,
        unreadable.get("interactions"),
        reject_missing_ids,
    )
    checked = {"items": items, "interactions": interactions}
    if "concepts" in raw:
        checked["concepts"] = check_concepts(
            raw["concepts"], files["concepts"], items, unreadable.get("concepts")
        )
    for name, result in checked.items():
        # A feature that somebody forgot to declare would be lost without a word.
        used = {*result.clean.column_names, *source.raw_columns}
        unused = [column for column in raw[name].column_names if column not in used]
        if unused:
            print(
                f"{name}: columns not in the contract nor declared as features are left out:"
                f" {', '.join(unused)}"
            )
    return checked


def write_contract(folder: Path, out: Path, max_rejected_share: float) -> dict[str, int]:
    """Read `folder` in whichever format it is and write it as contract Parquet into `out`.

    Returns the rows of each table. Further columns of the items stay as features: text as id
    features, numbers as float features. Rejected rows go to `out`/rejected.parquet. Raises
    UserError as `read` and the checks do.
    """
    if out.resolve() == folder.resolve():
        raise UserError(f"{out} is the folder to read from. Give another one to write to.")
    source = read(folder)
    # What the items have beyond the contract becomes features, by its type.
    contracted = {column.name for column in contract.ITEMS} | source.raw_columns
    further = [field for field in source.tables["items"].schema if field.name not in contracted]
    ids = [field.name for field in further if contract.accepts(pa.string(), field.type)]
    floats = [field.name for field in further if contract.accepts(pa.float64(), field.type)]
    checked = check(source, ids, [name for name in floats if name not in ids])
    set_aside(checked, out, max_rejected_share)
    for name, table in checked.items():
        write_parquet(table.clean, out / f"{name}.parquet")
    items = checked["items"].clean
    if items["image_path"].null_count < items.num_rows:
        print(
            f"images stay in {folder}: image_path is relative to it. Copy them beside"
            " items.parquet to use them there."
        )
    return {name: table.clean.num_rows for name, table in checked.items()}


@contextmanager
def _recognized(folder: Path) -> Iterator[tuple[Format, list[Path], Path, str]]:
    """The format that a folder is in, its files, the folder that they lie in, and the path to that
    folder from `folder`.
    """
    if not folder.is_dir():
        problem = "it is a file" if folder.exists() else "no such folder"
        raise UserError(f"data folder {folder}: {problem}. Give a folder.")
    # The caller reads inside of this: an unpacked archive is gone when it is over.
    with _data_root(folder) as (root, prefix):
        for form in FORMATS:
            paths = form.find(root)
            if paths:
                yield form, paths, root, prefix
                return
    # What is in the folder in place of data often shows at a glance what is wrong.
    names = sorted(path.name for path in folder.iterdir())
    listed = ", ".join(names[:20])
    if len(names) > 20:
        listed += f" and {len(names) - 20:,} more"
    forms = "".join(f"\n  {form.name}: {form.files}" for form in FORMATS)
    raise UserError(
        f"data folder {folder}: found {listed or 'nothing'}. Give a folder in one of these"
        f" forms:{forms}"
    )


@contextmanager
def _data_root(folder: Path) -> Iterator[tuple[Path, str]]:
    """The folder that holds the data, and the path to it from `folder` ("" or "name/").

    It is `folder`, a folder in it, or a zip archive in it, which is unpacked into a temporary
    folder; `folder` also where no data are. Raises UserError where two folders or archives hold
    data, or an archive cannot be read.
    """
    # Data in the folder itself go before whatever lies beside them.
    inside = sorted(folder.iterdir())
    if _holds_data(folder):
        yield folder, ""
        return
    # Folders go before archives: an archive beside what was unpacked from it is no second data set.
    below = [path for path in inside if path.is_dir() and _holds_data(path)]
    archives = [path for path in inside if path.suffix.lower() == ".zip"]
    if len(below) > 1 or (not below and len(archives) > 1):
        names = ", ".join(path.name for path in below or archives)
        raise UserError(
            f"data folder {folder}: {names}: more than one holds data. Give one of them."
        )
    if below:
        print(f"data are read from {below[0]}", flush=True)
        yield below[0], f"{below[0].name}/"
    elif archives:
        with _unpacked(archives[0]) as (root, prefix):
            # An archive without data counts for nothing.
            yield (root, prefix) if root else (folder, "")
    else:
        yield folder, ""


@contextmanager
def _unpacked(archive: Path) -> Iterator[tuple[Path | None, str]]:
    """The folder in an archive that holds data, None where there is none, and the path to it."""
    with TemporaryDirectory() as temporary:
        root = Path(temporary) / archive.name
        try:
            with ZipFile(archive) as packed:
                packed.extractall(root)
        except (BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            # A password is a RuntimeError.
            raise UserError(
                f"{archive} cannot be unpacked ({error}). Unpack it yourself, or download it anew."
            ) from None
        folders = [path for path in [root, *sorted(root.rglob("*"))] if path.is_dir()]
        inner = [path.relative_to(root) for path in folders if _holds_data(path)]
        if len(inner) > 1:
            names = ", ".join(map(str, inner))
            raise UserError(
                f"{archive}: {names}: more than one holds data. Unpack it, and give one of them."
            )
        if inner:
            print(f"data are read from the archive {archive}", flush=True)
            yield root / inner[0], f"{archive.name}/{inner[0]}/".replace("/./", "/")
        else:
            yield None, ""


def _holds_data(folder: Path) -> bool:
    return any(form.find(folder) for form in FORMATS)
