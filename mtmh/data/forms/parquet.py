"""The contract's own form: interactions.parquet, and items.parquet and concepts.parquet where there are any."""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mtmh.data import contract
from mtmh.data.forms.form import Form, Source, present
from mtmh.errors import UserError


def find(folder: Path) -> list[Path]:
    """interactions.parquet, then the others."""
    others = [*present(folder, "items.parquet"), *present(folder, "concepts.parquet")]
    found = present(folder, "interactions.parquet")
    return found + others if found else []


def read(paths: list[Path]) -> Source:
    """The tables as they are. Without items.parquet, the items are those of the interactions, and the run says so."""
    tables = {path.stem: contract.read_parquet(path) for path in paths}
    files = {path.stem: str(path) for path in paths}
    if "items" not in tables:
        folder = paths[0].parent
        others = sorted(path.name for path in folder.glob("*.parquet") if path not in paths)
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


FORM = Form("the contract", "interactions.parquet, items.parquet", find, read)
