"""Columns under other names than the contract's: user_id=uid, or interactions.timestamp=ts for one table alone."""

from difflib import get_close_matches

import pyarrow as pa

from mtmh.data import contract
from mtmh.errors import UserError

COLUMNS = {
    "interactions": contract.INTERACTIONS,
    "items": contract.ITEMS,
    "concepts": contract.CONCEPTS,
}


def parse_columns(text: str) -> dict[str, str]:
    """`user_id=uid,item_id=movieId` as a dict. Raises UserError when an entry is not of that form."""
    entries = [entry.partition("=") for entry in text.split(",") if entry.strip()]
    wrong = [name for name, _, column in entries if not name.strip() or not column.strip()]
    if wrong or not entries:
        raise UserError(
            f"--columns {text}: write the contract's name = your name, such as user_id=uid,item_id=movieId."
        )
    names = [name.strip() for name, _, _ in entries]
    if len(set(names)) < len(names):
        raise UserError(f"--columns {text}: a name is there twice. Keep one.")
    return {name.strip(): column.strip() for name, _, column in entries}


def renamed(tables: dict[str, pa.Table], columns: dict[str, str]) -> dict[str, pa.Table]:
    """The tables with the contract's names. Raises UserError for a name that the contract or the files do not have."""
    result = dict(tables)
    for entry, written in columns.items():
        chosen, name = _contract_name(entry)
        holders = [t for t in tables if t in chosen and written in tables[t].column_names]
        if not holders:
            raise UserError(
                _absent(entry, written, {t: tables[t].column_names for t in tables if t in chosen})
            )
        for holder in holders:
            result[holder] = _put(result[holder], name, tables[holder][written], written)
    used = {entry.rpartition(".")[2]: written for entry, written in columns.items()}
    for name, table in result.items():
        spent = [w for n, w in used.items() if n != w and w not in used and w in table.column_names]
        result[name] = table.drop_columns(
            [w for w in dict.fromkeys(spent) if w in tables[name].column_names]
        )
    return result


def _contract_name(entry: str) -> tuple[list[str], str]:
    """The tables that an entry is for, and the contract's column."""
    table, _, name = entry.rpartition(".")
    chosen = [
        t
        for t, known in COLUMNS.items()
        if table in ("", t) and name in {column.name for column in known}
    ]
    if not chosen:
        every = [column.name for known in COLUMNS.values() for column in known]
        every += [f"{t}.{column.name}" for t, known in COLUMNS.items() for column in known]
        raise UserError(
            f"--columns {entry}=..: the contract has no {entry!r}{_close(entry, every)}."
            f" It has {', '.join(dict.fromkeys(n for n in every if '.' not in n))}."
        )
    return chosen, name


def _put(table: pa.Table, name: str, values: pa.ChunkedArray, written: str) -> pa.Table:
    if name == written:
        return table
    if name in table.column_names:
        print(
            f"--columns: {written} is read as {name}; the column that is called {name} is left out",
            flush=True,
        )
        return table.set_column(table.column_names.index(name), name, values)
    return table.append_column(name, values)


def _absent(entry: str, written: str, there: dict[str, list[str]]) -> str:
    every = [name for names in there.values() for name in names]
    listed = "; ".join(f"{table} has {', '.join(names)}" for table, names in there.items())
    return f"--columns {entry}={written}: no column {written!r}{_close(written, every)}. {listed or 'No such table'}."


def _close(name: str, names: list[str]) -> str:
    lowered = {other.lower(): other for other in names}
    close = [lowered[match] for match in get_close_matches(name.lower(), lowered, n=2)]
    return f" (did you mean {' or '.join(close)}?)" if close else ""
