"""Text files are read block by block, in order, whole."""

import json
from pathlib import Path

import pytest

from mtmh.data.forms import text
from mtmh.errors import UserError


def test_many_blocks_give_every_line_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "BLOCK", 1000)
    path = tmp_path / "lines.jsonl"
    path.write_text("".join(json.dumps({"n": n, "word": "x" * (n % 50)}) + "\n" for n in range(5000)))
    table = text.select_json(path, {"n": text.TEXT}, ["n"], "select n::int as n from objects where n::int % 2 = 0")
    assert table["n"].to_pylist() == list(range(0, 5000, 2))
    csv = tmp_path / "rows.csv"
    csv.write_text("a,b\n" + "".join(f'{n},"x\ny"\n' for n in range(5000)))
    assert text.read_csv(csv, ["a"])["a"].to_pylist() == [str(n) for n in range(5000)]


def test_a_line_longer_than_a_block_is_an_error_not_a_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text, "BLOCK", 1000)
    path = tmp_path / "lines.txt"
    path.write_text("short\n" + "x" * 5000 + "\nshort\n")
    with pytest.raises(UserError, match=r"lines\.txt is not readable as lines of text"):
        text.select_lines(path, "select raw from lines")


def test_a_csv_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"a,b\n1,\xff\n")
    with pytest.raises(UserError, match=r"rows\.csv is not readable as CSV: .*invalid UTF8"):
        text.read_csv(tmp_path / "rows.csv", ["b"])
