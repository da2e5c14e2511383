"""The command line in the process of the test."""

import sys

import pytest

import mtmh_cli


def mtmh(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    """Run `mtmh` with these words; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["mtmh", *words])
    with pytest.raises(SystemExit) as ended:
        mtmh_cli.main()
    return int(ended.value.code or 0)
