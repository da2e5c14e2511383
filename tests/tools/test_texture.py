"""The measures of the code on an invented file, and the code within its bounds."""

from pathlib import Path

from tools.texture import measure, python_files

ROOT = Path(__file__).parents[2]
SOURCE = '''"""A docstring is
no code."""

import ast  # a comment behind code


def _once(node):
    return ast.dump(node)


def _twice(node):
    # A step.
    return node


def public(node):
    """No code."""
    return _once(_twice(_twice(node)))
'''


def test_an_invented_file_is_measured(tmp_path: Path) -> None:
    file = tmp_path / "invented.py"
    file.write_text(SOURCE)
    marker = tmp_path / "__init__.py"
    marker.write_text('"""A mark."""\n')
    texture = measure([file, marker])
    assert (texture.files, texture.lines, texture.code_lines) == (1, 19, 7)
    assert (texture.function_median, texture.function_max) == (3, 3)
    assert texture.comments == 2 / 19
    assert texture.private_once == 1 / 3
    assert texture.widest == len("    return _once(_twice(_twice(node)))")


def test_the_code_is_within_its_bounds() -> None:
    """The goals of CONTRIBUTING.md; `python -m tools.texture` prints the figures."""
    files = python_files(ROOT)
    texture = measure(files)
    print(texture)
    assert 130 <= texture.file_median <= 230
    assert texture.file_max <= 340
    assert 10 <= texture.function_median <= 15
    assert texture.function_max <= 60
    assert texture.private_once <= 0.15
    assert texture.comments >= 0.05
