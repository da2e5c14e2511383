"""How a text file of rows is written: its encoding and its separator, read off the file and said where unusual."""

import codecs
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import pyarrow as pa

from mtmh.errors import UserError

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars (|)"}
MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # what such a file begins with
BLOCK = 1 << 24  # bytes


@dataclass(frozen=True)
class Dialect:
    """The encoding (Python's name) and the separator. UTF-8 may have single lines that are none."""

    encoding: str
    separator: str


def dialect(path: Path) -> Dialect:
    """The dialect of a file, perhaps compressed (.gz). Raises UserError when it cannot be unpacked or decoded."""
    try:
        encoding = _encoding(path)
        with pa.input_stream(str(path), compression="detect") as stream:
            lines = stream.read(BLOCK).decode(encoding, errors="replace").splitlines()
    except (OSError, EOFError, pa.ArrowException) as error:
        raise UserError(f"{path} cannot be read ({str(error).splitlines()[0]}). Write it anew.") from None
    header = next((line for line in lines if line.strip()), "")
    separator = max(SEPARATORS, key=header.count)  # the first of those that are as frequent
    return Dialect(encoding, separator)


def say(path: Path, written: Dialect) -> None:
    """Print what was read off the file, where it is not UTF-8 separated by commas."""
    usual = "\t" if ".tsv" in path.name.lower() else ","
    if written != Dialect("utf-8", usual):
        print(f"{path}: read as {written.encoding}, separated by {SEPARATORS[written.separator]}", flush=True)


def _encoding(path: Path) -> str:
    """UTF-16 by its mark or its zero bytes; one byte a letter where more lines speak against UTF-8 than for it."""
    good = broken = 0
    western = "cp1252"
    with BufferedReader(pa.input_stream(str(path), compression="detect")) as stream:
        block = stream.read(BLOCK)
        if wide := _wide(block):
            return wide
        while block:
            # A block ends with a line; the last line of the file may have no end.
            block += stream.readline() if not block.endswith(b"\n") else b""
            for line in _not_ascii(block):
                utf8 = _decodes(line, "utf-8")
                good, broken = good + utf8, broken + (not utf8)
                western = western if _decodes(line, western) else "latin-1"
            block = stream.read(BLOCK)
    return western if broken > good else "utf-8"


def _wide(block: bytes) -> str | None:
    """UTF-16, with a mark or without: every other byte of plain letters is zero."""
    for mark, encoding in MARKS.items():
        if block.startswith(mark):
            return encoding
    start = block[:1000]
    if len(start) >= 4 and start[1::2].count(0) > 0.4 * len(start):
        return "utf-16-le"
    return "utf-16-be" if len(start) >= 4 and start[::2].count(0) > 0.4 * len(start) else None


def _not_ascii(block: bytes) -> list[bytes]:
    return [] if block.isascii() else [line for line in block.split(b"\n") if not line.isascii()]


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
