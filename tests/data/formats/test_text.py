"""Text files are read block by block, in order, whole."""

import json
from pathlib import Path

import pytest

from mtmh.data.formats import text
from mtmh.errors import UserError


def test_many_blocks_give_every_line_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BLOCK", 1000)
    path = tmp_path / "lines.jsonl"
    path.write_text(
        "".join(json.dumps({"n": n, "word": "x" * (n % 50)}) + "\n" for n in range(5000))
    )
    table = text.select_json(
        path, {"n": text.TEXT}, ["n"], "select n::int as n from objects where n::int % 2 = 0"
    )
    assert table["n"].to_pylist() == list(range(0, 5000, 2))
    csv = tmp_path / "rows.csv"
    csv.write_text("a,b\n" + "".join(f'{n},"x\ny"\n' for n in range(5000)))
    assert text.read_csv(csv, ["a"])["a"].to_pylist() == [str(n) for n in range(5000)]


def test_a_line_longer_than_a_block_is_an_error_not_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BLOCK", 1000)
    path = tmp_path / "lines.txt"
    path.write_text("short\n" + "x" * 5000 + "\nshort\n")
    with pytest.raises(UserError, match=r"lines\.txt is not readable as lines of text"):
        text.select_lines(path, "select raw from lines")


def test_a_csv_of_one_byte_a_letter_is_read_and_it_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "rows.csv").write_bytes(b"a,b\n1,caf\xe9\n")
    assert text.read_csv(tmp_path / "rows.csv", ["b"])["b"].to_pylist() == ["caf\u00e9"]
    assert "rows.csv: read as cp1252" in capsys.readouterr().out
