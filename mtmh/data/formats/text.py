"""Text files as Arrow tables: CSV, lines, JSON Lines. Read block by block, so that a large file never lies in memory
whole: what a reader selects from a block is all that is kept of it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as csv

from mtmh.data.formats.dialect import dialect, say
from mtmh.errors import UserError

BLOCK = 1 << 24  # bytes read at a time; no line may be longer
TEXT, TEXTS = "VARCHAR", ("VARCHAR",)  # what a JSON field holds, as DuckDB's json_transform has it
# A line that is not UTF-8 has no `text`; `raw` then writes its bytes out.
LINES = "lines as (select try(decode(bytes)) as text, coalesce(text, bytes::varchar) as raw from batch)"


def read_csv(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The named columns (all of them where none is named), as text; single values may hold bytes that are no UTF-8.

    Raises UserError naming a missing column or the line that cannot be read.
    """
    return pa.Table.from_batches(csv_batches(path, columns, check_utf8=False))


def csv_batches(path: Path, columns: Sequence[str] | None = None, check_utf8: bool = True) -> Iterator[pa.RecordBatch]:
    """As `read_csv`, block by block; the first batch is empty and has the columns."""
    written = dialect(path)
    say(path, written)
    encoding = "utf8" if written.encoding == "utf-8" else written.encoding
    # Without threads, a line that cannot be read is named by its number.
    read = csv.ReadOptions(block_size=BLOCK, use_threads=False, encoding=encoding)
    handler = _PassBlanks()
    quoted = csv.ParseOptions(delimiter=written.separator, newlines_in_values=True, invalid_row_handler=handler)
    try:
        names = csv.open_csv(path, read_options=read, parse_options=quoted).schema.names
        missing = [name for name in columns or [] if name not in names]
        if missing:
            raise UserError(
                f"{path}: column {missing[0]!r} is missing; it has {', '.join(names)}. Give the file as it was"
                " published."
            )
        wanted = csv.ConvertOptions(
            column_types=dict.fromkeys(columns or names, pa.string()),
            include_columns=columns or names,
            check_utf8=check_utf8,
            quoted_strings_can_be_null=False,
        )
        yield from _batches(csv.open_csv(path, read_options=read, parse_options=quoted, convert_options=wanted))
    except (pa.ArrowInvalid, UnicodeError, KeyError) as error:
        raise UserError(f"{path} is not readable as CSV: {error}. {handler.advice(path)}") from None


class _PassBlanks:
    """What to do with a line of another number of fields: one of blanks alone is passed over, any other an error."""

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
            return f"Line {quote[0]:,} has a quote that is not closed: {quote[1]}. Double it, or remove it."
        if self.line is None:
            return "Mend or remove that line."
        return (
            f"Line {self.line.number or 0:,} has {self.line.actual_columns} fields, not"
            f" {self.line.expected_columns}: {self.line.text[:200]}. Mend or remove that line."
        )


def unclosed_quote(path: Path) -> tuple[int, str] | None:
    """Number (from 1) and text of the first line on which a quoted field does not end; None where there is none."""
    written = dialect(path)
    with pa.input_stream(str(path), compression="detect") as stream:
        lines = stream.read(1 << 26).decode(written.encoding, errors="replace").splitlines()
    for number, line in enumerate(lines, start=1):
        opens = line.startswith('"') or f'{written.separator}"' in line
        if opens and line.count('"') % 2:
            return number, line[:200]
    return None


def select(batches: Iterable[pa.RecordBatch], sql: str) -> tuple[pa.Table, int]:
    """Run DuckDB's `sql` over the table `batch`, batch by batch; the rows in order, and how many were read."""
    tables, rows = [], 0
    with duckdb.connect() as connection:
        for batch in batches:
            connection.register("batch", pa.Table.from_batches([batch]))
            tables.append(connection.sql(sql).to_arrow_table())
            rows += batch.num_rows
    return pa.concat_tables(tables), rows


def select_lines(path: Path, sql: str) -> pa.Table:
    """Run `sql` over the table `lines` of a text file: `text` (null where it is not UTF-8) and `raw`, for messages.

    Empty lines are passed over. Raises UserError when the file is empty.
    """
    return select(_lines(path), f"with {LINES} {sql}")[0]


def select_json(path: Path, fields: Mapping[str, str | Sequence[str]], needed: Sequence[str], sql: str) -> pa.Table:
    """Run `sql` over the table `objects` of a JSON Lines file (perhaps compressed, .gz).

    It has a column for each of `fields` (name -> TEXT or TEXTS; null where the line has none, numbers as their text),
    `broken` (bool, the line is not a JSON object) and `raw`. Raises UserError when the first object lacks one of the
    `needed` fields, or when the file is empty.
    """
    one = "json_valid(text) and json_type(text) = 'OBJECT'"
    keys = f"with {LINES} select json_keys(text) as keys from lines where {one} limit 1"
    found = select(islice(_lines(path), 2), keys)[0]["keys"].to_pylist()  # the empty batch, and the first block
    missing = [name for name in needed if found and name not in found[0]]
    if missing:
        raise UserError(
            f"{path}: field {missing[0]!r} is missing; the first line has {', '.join(found[0])}. Give the file as it"
            " was published."
        )
    objects = f"""
        parsed as (
            select raw, case when {one} then json_transform(text, '{json.dumps(fields)}') end as field from lines
        ),
        objects as (select field.*, field is null as broken, raw from parsed)
    """
    return select(_lines(path), f"with {LINES}, {objects} {sql}")[0]


def json_names(path: Path) -> list[str]:
    """The fields of a JSON Lines file's objects, in the order in which they first appear."""
    one = "json_valid(text) and json_type(text) = 'OBJECT'"
    keys = f"with {LINES} select distinct json_keys(text) as keys from lines where {one}"
    rows = select(_lines(path), keys)[0]["keys"].to_pylist()
    return list(dict.fromkeys(name for row in sorted(rows, key=len, reverse=True) for name in row))


def once(table: pa.Table, path: Path) -> pa.Table:
    """The table without rows that repeat an earlier one in every column; the run says how many there were."""
    kept = table.group_by(table.column_names, use_threads=False).aggregate([]).select(table.column_names)
    if kept.num_rows < table.num_rows:
        repeated = f"{table.num_rows - kept.num_rows:,} lines repeat an earlier line in all that is read of them"
        print(f"{path}: {repeated}: they are read once", flush=True)
    return kept


def parse(text: pa.ChunkedArray, pattern: str, kind: pa.DataType) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """The text as numbers, null where it is none, and the mask of those rows."""
    text = pc.utf8_trim_whitespace(text)
    good = pc.match_substring_regex(text, pattern)
    return pc.if_else(good, text, pa.scalar(None, pa.string())).cast(kind), pc.invert(good)


def _lines(path: Path) -> Iterator[pa.RecordBatch]:
    """The lines of a text file: CSV of one column `bytes`, whose separator (a control character) is in no such file."""
    try:
        reader = csv.open_csv(
            path,
            read_options=csv.ReadOptions(column_names=["bytes"], block_size=BLOCK, use_threads=False),
            parse_options=csv.ParseOptions(delimiter="\x1e", quote_char=False, double_quote=False),
            convert_options=csv.ConvertOptions(column_types={"bytes": pa.binary()}),
        )
        yield from _batches(reader)
    except pa.ArrowInvalid as error:
        raise UserError(f"{path} is not readable as lines of text: {error}. Mend or remove that line.") from None


def _batches(reader: csv.CSVStreamingReader) -> Iterator[pa.RecordBatch]:
    yield pa.RecordBatch.from_pylist([], schema=reader.schema)
    yield from reader
