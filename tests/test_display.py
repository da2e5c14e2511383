"""Text of data as people see it: nothing of it steers a terminal, turns the direction of reading,
or is lost.
"""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtmh.display import finalize, visible, visible_lines

TEXTS = st.text(st.characters(exclude_categories=[]))  # surrogates too


@given(TEXTS)
def test_no_text_controls_what_shows_it(text: str) -> None:
    for line in (visible(text), *visible_lines(text).split("\n")):
        assert not any(unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") for letter in line)
        assert not any(unicodedata.bidirectional(letter) in STEERING for letter in line)


STEERING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


@pytest.mark.parametrize(
    "text", ["Café Ωmega", "عربي", "日本語", "👩\u200d💻", "Gifts $5 - $10", "<b>"]
)
def test_what_is_only_text_stays(text: str) -> None:
    assert visible(text) == text == finalize(text)


def test_what_is_hidden_is_written_out_and_long_text_is_cut() -> None:
    assert visible("user\u202egnp.exe\x1b[2J\n") == "user\\u202egnp.exe\\u001b[2J\\u000a"
    assert visible_lines("two\nlines\r") == "two\nlines\\u000d"
    assert visible("x" * 300, most=20) == "x" * 19 + "\u2026"
    assert finalize(7) == 7
