"""The folder that new items are put into: Parquet files that come one after the other and stay
until a training has seen them."""

from pathlib import Path

import pyarrow as pa

from mtmh.data.contract import read_parquet
from mtmh.errors import UserError


def read_new_items(folder: Path) -> pa.Table | None:
    """The rows of all `folder`/*.parquet, None where there is no such file.

    Of an item that is in several files, the row of the last by name. A column that one of them
    lacks is null there. Raises UserError where a file is no table of items.
    """
    files = sorted(folder.glob("*.parquet"))
    if not files:
        return None
    tables = []
    for path in files:
        table = read_parquet(path)
        if "item_id" not in table.column_names:
            raise UserError(
                f"{path} has no column item_id; it has {', '.join(table.column_names)}. Write the"
                " new items there in the contract's form (docs/data.md)."
            )
        tables.append(table)
    try:
        rows = pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        raise UserError(
            f"{folder}: its files have columns of one name and other types"
            f" ({str(error).splitlines()[0]}). Write them in the contract's form (docs/data.md)."
        ) from None
    numbered = pa.table({"item_id": rows["item_id"], "row": pa.array(range(len(rows)))})
    last = numbered.group_by("item_id").aggregate([("row", "max")])["row_max"]
    return rows.take(last.combine_chunks().sort())
