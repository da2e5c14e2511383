"""Text files as Arrow tables: CSV, lines, JSON Lines.

Read block by block, so that a large file never lies in memory whole: only what a reader selects
from a block stays.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv as csv

from mtmh.data.formats.dialect import dialect, say
from mtmh.errors import UserError

BLOCK = 1 << 24  # bytes read at a time; no line may be longer
TEXT, TEXTS = "VARCHAR", ("VARCHAR",)  # what a JSON field holds, as DuckDB's json_transform has it
# A line that is not UTF-8 has no `text`; `raw` then writes its bytes out.
LINES = """
    lines as (
        select try(decode(bytes)) as text, coalesce(text, bytes::varchar) as raw from batch
    )
"""
IS_OBJECT = "json_valid(text) and json_type(text) = 'OBJECT'"


def read_csv(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The named columns (all of them where none is named), as text.

    Single values may hold bytes that are no UTF-8. Raises UserError naming a missing column or the
    line that cannot be read.
    """
    return pa.Table.from_batches(csv_batches(path, columns, check_utf8=False))


def csv_batches(
    path: Path, columns: Sequence[str] | None = None, check_utf8: bool = True
) -> Iterator[pa.RecordBatch]:
    """As `read_csv`, block by block; the first batch is empty and has the columns."""
    written = dialect(path)
    say(path, written)
    encoding = "utf8" if written.encoding == "utf-8" else written.encoding
    # Without threads, a line that cannot be read is named by its number.
    reading = csv.ReadOptions(block_size=BLOCK, use_threads=False, encoding=encoding)
    handler = _SkipBlankLines()
    parsing = csv.ParseOptions(
        delimiter=written.separator,
        newlines_in_values=True,
        invalid_row_handler=handler,
    )
    try:
        # Opened twice: the names of the columns say how to convert them.
        names = csv.open_csv(path, read_options=reading, parse_options=parsing).schema.names
        missing = [name for name in columns or [] if name not in names]
        if missing:
            raise UserError(
                f"{path}: column {missing[0]!r} is missing; it has {', '.join(names)}. Give the"
                " file as it was published."
            )
        conversion = csv.ConvertOptions(
            column_types=dict.fromkeys(columns or names, pa.string()),
            include_columns=columns or names,
            check_utf8=check_utf8,
            quoted_strings_can_be_null=False,
        )
        reader = csv.open_csv(
            path,
            read_options=reading,
            parse_options=parsing,
            convert_options=conversion,
        )
        yield from _batches(reader)
    except (pa.ArrowInvalid, UnicodeError, KeyError) as error:
        raise UserError(f"{path} is not readable as CSV: {error}. {handler.advice(path)}") from None


class _SkipBlankLines:
    """What to do with a line of another number of fields: a blank one is skipped."""

    def __init__(self) -> None:
        self.line: csv.InvalidRow | None = None

    def __call__(self, row: csv.InvalidRow) -> str:
        if not row.text.strip():
            return "skip"
        self.line = row
        return "error"

    def advice(self, path: Path) -> str:
        """What to do about the line that was an error, or about a quote that is never closed."""
        quote = unclosed_quote(path)
        if quote:
            number, text = quote
            advice = "Double it, or remove it."
            return f"Line {number:,} has a quote that is not closed: {text}. {advice}"
        if self.line is None:
            return "Mend or remove that line."
        return (
            f"Line {self.line.number or 0:,} has {self.line.actual_columns} fields, not"
            f" {self.line.expected_columns}: {self.line.text[:200]}. Mend or remove that line."
        )


def unclosed_quote(path: Path) -> tuple[int, str] | None:
    """Number (from 1) and text of the first line on which a quoted field does not end; or None."""
    written = dialect(path)
    with pa.input_stream(str(path), compression="detect") as stream:
        # At most 64 MiB, so that a large file does not fill the memory.
        lines = stream.read(1 << 26).decode(written.encoding, errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        opens = line.startswith('"') or f'{written.separator}"' in line
        if opens and line.count('"') % 2:
            return number, line[:200]
    return None


def select(batches: Iterable[pa.RecordBatch], sql: str) -> tuple[pa.Table, int]:
    """Run DuckDB's `sql` over the table `batch`, batch by batch: the rows in order, and how many
    were read.
    """
    tables, rows = [], 0
    with duckdb.connect() as connection:
        for batch in batches:
            connection.register("batch", pa.Table.from_batches([batch]))
            tables.append(connection.sql(sql).to_arrow_table())
            rows += batch.num_rows
    return pa.concat_tables(tables), rows


def select_lines(path: Path, sql: str) -> pa.Table:
    """Run `sql` over the table `lines` of a text file.

    Its columns are `text` (null where it is not UTF-8) and `raw`, for messages. Empty lines are
    skipped. Raises UserError when the file is empty.
    """
    return select(_lines(path), f"with {LINES} {sql}")[0]


def select_json(
    path: Path, fields: Mapping[str, str | Sequence[str]], needed: Sequence[str], sql: str
) -> pa.Table:
    """Run `sql` over the table `objects` of a JSON Lines file (perhaps compressed, .gz).

    It has a column for each of `fields` (name -> TEXT or TEXTS; null where the line has none,
    numbers as their text), `broken` (bool, the line is not a JSON object) and `raw`. Raises
    UserError when the first object lacks one of the `needed` fields, or when the file is empty.
    """
    # The first object stands in the first block, behind the empty batch.
    first = f"with {LINES} select json_keys(text) as keys from lines where {IS_OBJECT} limit 1"
    names = select(islice(_lines(path), 2), first)[0]["keys"].to_pylist()
    missing = [name for name in needed if names and name not in names[0]]
    if missing:
        raise UserError(
            f"{path}: field {missing[0]!r} is missing; the first line has {', '.join(names[0])}."
            " Give the file as it was published."
        )
    objects = f"""
        parsed as (
            select raw,
                case
                    when {IS_OBJECT} then json_transform(text, '{json.dumps(fields)}')
                end as field
            from lines
        ),
        objects as (select field.*, field is null as broken, raw from parsed)
    """
    return select(_lines(path), f"with {LINES}, {objects} {sql}")[0]


def json_names(path: Path) -> list[str]:
    """The fields of a JSON Lines file's objects, in the order in which they first appear."""
    keys = f"with {LINES} select distinct json_keys(text) as keys from lines where {IS_OBJECT}"
    rows = select(_lines(path), keys)[0]["keys"].to_pylist()
    return list(dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row))


def drop_duplicates(table: pa.Table, path: Path) -> pa.Table:
    """The table without rows that repeat an earlier one whole; their number is printed."""
    names = table.column_names
    distinct = table.group_by(names, use_threads=False).aggregate([]).select(names)
    repeated = table.num_rows - distinct.num_rows
    if repeated:
        print(
            f"{path}: {repeated:,} lines repeat an earlier line in all that is read of them: they"
            " are read once",
            flush=True,
        )
    return distinct


def _lines(path: Path) -> Iterator[pa.RecordBatch]:
    """The lines of a text file, read as CSV of one column `bytes`.

    Its separator is a control character that no such file has.
    """
    reading = csv.ReadOptions(column_names=["bytes"], block_size=BLOCK, use_threads=False)
    try:
        reader = csv.open_csv(
            path,
            read_options=reading,
            parse_options=csv.ParseOptions(delimiter="\x1e", quote_char=False, double_quote=False),
            convert_options=csv.ConvertOptions(column_types={"bytes": pa.binary()}),
        )
        yield from _batches(reader)
    except pa.ArrowInvalid as error:
        raise UserError(
            f"{path} is not readable as lines of text: {error}. Mend or remove that line."
        ) from None


def _batches(reader: csv.CSVStreamingReader) -> Iterator[pa.RecordBatch]:
    yield pa.RecordBatch.from_pylist([], schema=reader.schema)
    yield from reader
