"""How a text file of rows is written: its encoding and separator, read off the file."""

import codecs
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path

import pyarrow as pa

from mtmh.errors import UserError

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars (|)"}
BOMS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # a file's first bytes
BLOCK = 1 << 24  # bytes


@dataclass(frozen=True)
class Dialect:
    """The encoding (Python's name) and the separator. Single lines may still not be UTF-8."""

    encoding: str
    separator: str


def dialect(path: Path) -> Dialect:
    """The dialect of a file, perhaps compressed (.gz).

    Raises UserError when it cannot be unpacked or decoded.
    """
    try:
        encoding = _encoding(path)
        with pa.input_stream(str(path), compression="detect") as stream:
            lines = stream.read(BLOCK).decode(encoding, errors="replace").splitlines()
    except (OSError, EOFError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} cannot be read ({reason}). Write it anew.") from None
    header = next((line for line in lines if line.strip()), "")
    separator = max(SEPARATORS, key=header.count)  # the first of those that are as frequent
    return Dialect(encoding, separator)


def say(path: Path, written: Dialect) -> None:
    """Print what was read off the file, where it is not UTF-8 separated by commas."""
    usual = "\t" if ".tsv" in path.name.lower() else ","
    if written != Dialect("utf-8", usual):
        separator = SEPARATORS[written.separator]
        print(f"{path}: read as {written.encoding}, separated by {separator}", flush=True)


def _encoding(path: Path) -> str:
    """UTF-16 by its first bytes; one byte a letter where most lines are not UTF-8; else UTF-8."""
    utf8_lines = other_lines = 0
    western = "cp1252"
    with BufferedReader(pa.input_stream(str(path), compression="detect")) as stream:
        block = stream.read(BLOCK)
        for bom, encoding in BOMS.items():
            if block.startswith(bom):
                return encoding
        # Without a byte order mark: every other byte of plain letters is zero.
        start = block[:1000]
        for first_zero, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
            if len(start) >= 4 and start[first_zero::2].count(0) > 0.4 * len(start):
                return encoding
        while block:
            # A block ends with a line; the last line of the file may have no end.
            block += stream.readline() if not block.endswith(b"\n") else b""
            # Lines of ASCII are the same in all of these encodings: they decide nothing.
            lines = [] if block.isascii() else block.split(b"\n")
            for line in lines:
                if line.isascii():
                    continue
                if _decodes(line, "utf-8"):
                    utf8_lines += 1
                else:
                    other_lines += 1
                if not _decodes(line, western):
                    western = "latin-1"
            block = stream.read(BLOCK)
    return western if other_lines > utf8_lines else "utf-8"


def _decodes(line: bytes, encoding: str) -> bool:
    try:
        line.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True
