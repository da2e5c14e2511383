"""The formula of a step's memory: a line through two sizes, checked on the one between them."""

import pytest

from benchmarks.resources import fitted


def test_the_line_goes_through_the_first_and_the_last_size() -> None:
    line = fitted([1.0, 2.0, 4.0], [300.0, 400.0, 600.0])
    assert line == {"fixed": 200.0, "per_million": 100.0, "error": 0.0}


def test_what_grows_faster_than_the_data_shows_as_an_error() -> None:
    assert fitted([1.0, 2.0, 4.0], [1.0, 4.0, 16.0])["error"] == pytest.approx(4 / 6 - 1, abs=1e-3)
