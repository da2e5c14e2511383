"""Names that say nothing stay out, and a type's name stands for one type."""

from pathlib import Path

from tools.texture import python_files
from tools.words import banned_names, types_of_one_name

ROOT = Path(__file__).parents[2]
SOURCE = """
import json as told


def find(asked, trigger):
    found = [one for one in trigger]
    return found


class Log:
    kept: int


@dsl.component(base_image=IMAGE)
def deploy(place):
    own = place
"""


def test_names_in_an_invented_file_are_found_wherever_they_are_bound(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text(SOURCE)
    names = banned_names(tmp_path, [tmp_path / "a.py"])
    assert {name.rpartition(" ")[2] for name in names} == {
        "told",
        "asked",
        "found",
        "one",
        "kept",
        "own",
    }
    assert "a.py:6: found" in names
    assert types_of_one_name(tmp_path, [tmp_path / "a.py", tmp_path / "b.py"]) == [
        "Log: a.py, b.py"
    ]


def test_the_code_has_none_of_them() -> None:
    files = python_files(ROOT)
    assert banned_names(ROOT, files) == []
    assert types_of_one_name(ROOT, files) == []
