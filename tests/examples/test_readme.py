"""README's ten lines of Python, run as they stand."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"


def test_the_readmes_python_answers(
    version: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    latest = tmp_path / "runs" / "latest"
    latest.mkdir(parents=True)
    (latest / "retriever").symlink_to(version("mtmh"))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, str(README), "exec"), {})
    titles, cosines = capsys.readouterr().out.split("] [")
    assert titles.count("'") == 6  # three titles
    assert len(cosines.strip("]\n").split()) == 3
