"""From the bytes of a segment to tables: whole columns at once, and what cannot be read set aside
with a reason.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
from pydantic import ValidationError

from mtmh.exposures.records import (
    ANSWER,
    CANDIDATE,
    ENGAGEMENTS,
    EXPOSURES,
    RECORD,
    explain,
)
from mtmh.exposures.segment import TORN, scan

# Start: byte of the segment.
REJECTED = pa.schema(
    [
        ("segment", pa.string()),
        ("start", pa.int64()),
        ("reason", pa.string()),
        ("content", pa.binary()),
    ]
)
DAMAGED = "damaged: no whole record with its checksum"
UNFINISHED = "torn: the writer was stopped in the middle of it, and had not acknowledged it"
FAR_OFF = "timestamp {} is more than 5 years before, or a year after, {}, when it was written"
OLDEST, NEWEST = timedelta(days=5 * 365), timedelta(days=365)


@dataclass(frozen=True)
class LogTables:
    """The log as tables: in the schemas of records.py, and what could not be read (REJECTED)."""

    exposures: pa.Table
    engagements: pa.Table
    rejected: pa.Table

    @classmethod
    def concat(cls, parts: Sequence["LogTables"]) -> "LogTables":
        """All rows, in the order of `parts`."""
        if not parts:
            return cls(EXPOSURES.empty_table(), ENGAGEMENTS.empty_table(), REJECTED.empty_table())
        return cls(
            pa.concat_tables([part.exposures for part in parts]),
            pa.concat_tables([part.engagements for part in parts]),
            pa.concat_tables([part.rejected for part in parts]),
        )


def read_segment(name: str, data: bytes, finished: bool = True) -> LogTables:
    """Tables of a segment's bytes. The tail of one that is not `finished` is being written, and
    no damage.

    `name` stands in `rejected`, and says when the segment was begun: records of a time far from it
    are rejected, as each of their days would be a folder. One that ends in .torn holds a tail that
    was cut off, and no records.
    """
    if name.endswith(TORN):
        return LogTables(
            EXPOSURES.empty_table(),
            ENGAGEMENTS.empty_table(),
            _rejected(name, [(0, UNFINISHED, data)]),
        )
    frames = scan(data)
    spans = list(frames.damage)
    if finished and frames.end < len(data):
        spans.append((frames.end, len(data)))
    bad = [(start, DAMAGED, data[start:end]) for start, end in spans]
    # A record of a day far from the segment's would make a folder of that day. The name says when
    # the segment was begun (log.py); one that has no time bounds nothing.
    begun = None
    with suppress(ValueError):
        if stamp := re.match(r"\d{8}T\d{6}", name.rpartition("/")[2]):
            begun = datetime.strptime(f"{stamp[0]}Z", "%Y%m%dT%H%M%S%z")
    lines: dict[str, list[str]] = {"exposure": [], "engagement": []}
    for start, content in frames.records:
        try:
            record = RECORD.validate_json(content)
        except ValidationError as error:  # from a version of this project that knew other records
            bad.append((start, explain(error), content))
            continue
        if begun is not None and not begun - OLDEST <= record.timestamp <= begun + NEWEST:
            reason = FAR_OFF.format(record.timestamp.isoformat(), begun.date())
            bad.append((start, reason, content))
        else:
            lines[record.kind].append(record.model_dump_json())
    engagements = with_day(_parse(lines["engagement"], _EVENT), ENGAGEMENTS)
    return LogTables(_exposures(lines["exposure"]), engagements, _rejected(name, sorted(bad)))


_EVENT = pa.schema([field for field in ENGAGEMENTS if field.name != "day"])
_REQUEST = pa.schema(
    [*ANSWER, *(pa.field(field.name, pa.list_(field.type)) for field in CANDIDATE)]
)


def _exposures(lines: list[str]) -> pa.Table:
    """A row a candidate, from a record a request."""
    requests = _parse(lines, _REQUEST).combine_chunks()
    items = requests["item_id"].combine_chunks()
    request = pc.list_parent_indices(items)
    lengths = pc.list_value_length(items).to_numpy()
    first = np.concatenate([[0], np.cumsum(lengths)])  # row of each request's first candidate
    columns = {field.name: requests[field.name].take(request) for field in ANSWER}
    columns |= {field.name: pc.list_flatten(requests[field.name]) for field in CANDIDATE}
    position = np.arange(1, len(request) + 1) - first[request.to_numpy()]
    columns["position"] = pa.array(position, pa.int32())
    return with_day(pa.table(columns), EXPOSURES)


def _parse(lines: list[str], schema: pa.Schema) -> pa.Table:
    if not lines:
        return schema.empty_table()
    content = "\n".join(lines).encode()
    block = max(2**20, 2 * max(map(len, lines)) * 4)  # in bytes, more than the longest line
    return pyarrow.json.read_json(
        pa.BufferReader(content),
        pyarrow.json.ReadOptions(block_size=block),
        pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
    )


def with_day(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table in `schema`, with the UTC day of its timestamps."""
    day = table["timestamp"].cast(pa.timestamp("us")).cast(pa.date32(), safe=False)
    return table.append_column("day", day).select(schema.names).cast(schema)


def _rejected(name: str, rows: list[tuple[int, str, bytes]]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return pa.table([[name] * len(rows), *columns], schema=REJECTED)
