"""The door to data: a folder in any known form (mtmh/data/forms, one reader a form) to the contract's tables."""

import hashlib
from pathlib import Path

import pyarrow as pa

from mtmh.data import contract, images
from mtmh.data.files import write_parquet
from mtmh.data.forms import amazon, kuairand, mind, movielens, parquet, yelp
from mtmh.data.forms.form import Form, Source
from mtmh.data.quarantine import Checked, check_concepts, check_interactions, check_items, set_aside
from mtmh.errors import UserError

FORMS = (parquet.FORM, mind.FORM, movielens.FORM, amazon.FORM, kuairand.FORM, yelp.FORM)  # the first that fits


def fingerprint(folder: Path) -> str:
    """Sha256 over names and content of the files that `read` would read, and names and sizes of the items' images.

    Raises UserError as `read` does.
    """
    digest = hashlib.sha256()
    for path in _form(folder)[1]:
        with path.open("rb") as stream:
            digest.update(path.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    digest.update(images.fingerprint(folder))
    return digest.hexdigest()


def read(folder: Path) -> Source:
    """Read a data folder in whichever form it is. Raises UserError saying what was looked for if it is in none."""
    form, paths = _form(folder)
    return form.read(paths)


def form_name(folder: Path) -> str:
    """What the form is called that the folder is in. Raises UserError as `read` does."""
    return _form(folder)[0].name


def check(
    source: Source, id_features: list[str], float_features: list[str], reject_missing_ids: bool = True
) -> dict[str, Checked]:
    """Check all tables of a source against the contract; the result has the same keys, items first.

    Columns that are neither in the contract nor declared as features are left out, and named.
    """
    tables, files, unreadable = source.tables, source.files, source.unreadable
    items = check_items(tables["items"], files["items"], id_features, float_features, unreadable.get("items"))
    interactions = check_interactions(
        tables["interactions"],
        files["interactions"],
        items,
        unreadable.get("interactions"),
        reject_missing_ids,
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
    checked = check(source, *_features(source))
    set_aside(checked, out, max_rejected_share)
    for name, table in checked.items():
        write_parquet(table.clean, out / f"{name}.parquet")
    if checked["items"].clean["image_path"].null_count < checked["items"].clean.num_rows:
        print(
            f"images stay in {folder}: image_path is relative to it. Copy them beside items.parquet to use them there."
        )
    return {name: table.clean.num_rows for name, table in checked.items()}


def _features(source: Source) -> tuple[list[str], list[str]]:
    """Columns of the items beyond the contract that can be id features, and those that can be float features."""
    known = {column.name for column in contract.ITEMS} | source.as_written
    further = [one for one in source.tables["items"].schema if one.name not in known]
    ids = [one.name for one in further if contract.accepts(pa.string(), one.type)]
    floats = [one.name for one in further if contract.accepts(pa.float64(), one.type) and one.name not in ids]
    return ids, floats


def _form(folder: Path) -> tuple[Form, list[Path]]:
    """The form that the folder is in, and its files."""
    if not folder.is_dir():
        raise UserError(
            f"data folder {folder}: {'it is a file' if folder.exists() else 'no such folder'}. Give a folder."
        )
    for form in FORMS:
        paths = form.find(folder)
        if paths:
            return form, paths
    names = sorted(path.name for path in folder.iterdir())
    found = ", ".join(names[:20]) + (f" and {len(names) - 20:,} more" if len(names) > 20 else "")
    known = "".join(f"\n  {form.name}: {form.files}" for form in FORMS)
    raise UserError(f"data folder {folder}: found {found or 'nothing'}. Give a folder in one of these forms:{known}")
