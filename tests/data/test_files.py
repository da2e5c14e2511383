"""A file is written whole or not at all."""

from pathlib import Path

import pytest

from mtmh.data.files import replacing, write_json


def interrupt(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half of")
        raise KeyboardInterrupt


def test_an_interrupted_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    write_json({"a": 1}, path)
    with pytest.raises(KeyboardInterrupt):
        interrupt(path)
    assert path.read_text() == '{\n  "a": 1\n}\n'
    assert [left.name for left in path.parent.iterdir()] == ["a.json"]
