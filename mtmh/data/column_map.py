"""Columns under other names than the contract's: user_id=uid, or interactions.timestamp=ts for one
table alone.
"""

from difflib import get_close_matches

import pyarrow as pa

from mtmh.data import contract
from mtmh.errors import UserError


def parse_columns(text: str) -> dict[str, str]:
    """`user_id=uid,item_id=movieId` as a dict.

    Raises UserError when an entry is not of that form.
    """
    entries = [entry.partition("=") for entry in text.split(",") if entry.strip()]
    wrong = [name for name, _, column in entries if not name.strip() or not column.strip()]
    if wrong or not entries:
        raise UserError(
            f"--columns {text}: write the contract's name = your name, such as"
            " user_id=uid,item_id=movieId."
        )
    names = [name.strip() for name, _, _ in entries]
    if len(set(names)) < len(names):
        raise UserError(f"--columns {text}: a name is there twice. Keep one.")
    return {name.strip(): column.strip() for name, _, column in entries}


def renamed(tables: dict[str, pa.Table], columns: dict[str, str]) -> dict[str, pa.Table]:
    """The tables with the contract's names.

    Raises UserError for a name that the contract or the files do not have.
    """
    result = dict(tables)
    for entry, written in columns.items():
        # The tables that have the column; where none does, the name is misspelled.
        tables_meant, name = _contract_name(entry)
        candidates = {t: tables[t].column_names for t in tables if t in tables_meant}
        holders = [t for t, names in candidates.items() if written in names]
        if not holders:
            names = [name for names in candidates.values() for name in names]
            listed = "; ".join(f"{t} has {', '.join(names)}" for t, names in candidates.items())
            raise UserError(
                f"--columns {entry}={written}: no column {written!r}{_close(written, names)}."
                f" {listed or 'No such table'}."
            )
        if name == written:
            continue
        # The values stand under the contract's name, in place of a column that had it already.
        for holder in holders:
            table, values = result[holder], tables[holder][written]
            if name not in table.column_names:
                result[holder] = table.append_column(name, values)
                continue
            print(
                f"--columns: {written} is read as {name}; the column that is called {name} is left"
                " out",
                flush=True,
            )
            result[holder] = table.set_column(table.column_names.index(name), name, values)
    # The columns under their old names go, but for one that is read under a name of its own.
    sources = {entry.rpartition(".")[2]: written for entry, written in columns.items()}
    renamed_columns = {w for name, w in sources.items() if name != w and w not in sources}
    for table_name, table in result.items():
        spent = [c for c in tables[table_name].column_names if c in renamed_columns]
        result[table_name] = table.drop_columns(list(dict.fromkeys(spent)))
    return result


def _contract_name(entry: str) -> tuple[list[str], str]:
    """The tables that an entry is for, and the contract's column."""
    table, _, name = entry.rpartition(".")
    names = {t: [column.name for column in columns] for t, columns in contract.TABLES.items()}
    matches = [t for t in names if table in ("", t) and name in names[t]]
    if not matches:
        plain = list(dict.fromkeys(name for columns in names.values() for name in columns))
        qualified = [f"{t}.{name}" for t, columns in names.items() for name in columns]
        raise UserError(
            f"--columns {entry}=..: the contract has no"
            f" {entry!r}{_close(entry, plain + qualified)}. It has {', '.join(plain)}."
        )
    return matches, name


def _close(name: str, names: list[str]) -> str:
    lowered = {other.lower(): other for other in names}
    close = [lowered[match] for match in get_close_matches(name.lower(), lowered, n=2)]
    return f" (did you mean {' or '.join(close)}?)" if close else ""
