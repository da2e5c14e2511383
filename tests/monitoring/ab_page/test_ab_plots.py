"""The pictures: what is out of proportion is cut and numbered, the primary metric never; colours go
by good and bad.
"""

from datetime import date, timedelta
from math import inf, nan

import pytest

from monitoring.ab_page.plots import BAD, OK, OPEN, PlottedLift, forest, over_days
from mtmh.display import visible


def line(
    label: str, lift: float, half: float, sign: int = 0, better: str = "better", whole: bool = False
) -> PlottedLift:
    """Its fixed interval is lift +- half, its always-valid one half as wide again."""
    return PlottedLift(
        label,
        lift,
        lift - half,
        lift + half,
        lift - 1.5 * half,
        lift + 1.5 * half,
        sign,
        better,
        whole,
    )


USUAL = [line(f"metric {n}", 0.001 * n, 0.02) for n in range(5)]


@pytest.mark.parametrize(
    ("sign", "better", "color"),
    [
        (1, "better", OK),
        (-1, "better", BAD),
        (1, "worse", BAD),
        (-1, "worse", OK),
        (1, "neutral", OPEN),
        (0, "better", OPEN),
    ],
)
def test_colours_say_good_or_bad_and_not_up_or_down(sign: int, better: str, color: str) -> None:
    assert line("", 0.1, 0.05, sign, better).color == color


def test_a_change_out_of_proportion_gets_a_number_and_leaves_the_axis_alone() -> None:
    (axes,) = forest([*USUAL, line("topic match", 1.2, 0.05, 1), line("cold", -0.9, 0.05, -1)]).axes
    assert axes.get_xlim()[1] < 10
    assert {text.get_text() for text in axes.texts} == {"+120 %", "\u221290 %"}
    assert [label.get_text() for label in axes.get_yticklabels()][::-1][-2:] == [
        "topic match",
        "cold",
    ]


def test_the_axis_reaches_as_far_as_the_primary_metric() -> None:
    (axes,) = forest([*USUAL, line("time spent", 0.6, 0.1, 1, whole=True)]).axes
    assert axes.get_xlim()[1] > 75
    assert not axes.texts


def test_what_has_no_interval_is_left_out_and_nothing_at_all_can_be_drawn() -> None:
    (axes,) = forest([*USUAL, line("no lift", nan, nan), line("endless", 0.1, inf)]).axes
    assert len(axes.get_yticklabels()) == len(USUAL)
    assert forest([line("no lift", nan, nan)]).axes


@pytest.mark.parametrize(
    "label",
    ["$$", "$", "Gifts $5 - $10", "$20_off$", r"$\\frac{", "a\u202eb", "x" * 300, "<b>", ""],
)
def test_any_topic_can_be_drawn_as_it_is(label: str) -> None:
    """Not as mathematics, of which most of these are none and end the drawing."""
    figure = forest([*USUAL, line(label, 0.01, 0.02)])
    figure.canvas.draw()
    drawn = {text.get_text() for text in figure.axes[0].get_yticklabels()}
    assert (visible(label) in drawn) or any(text.startswith(label[:20]) for text in drawn)


def test_days_are_drawn_on_the_scale_of_the_later_ones() -> None:
    days = [date(2025, 3, 2) + timedelta(days=n) for n in range(10)]
    lines = [line("time spent", 0.05, 3.0 / (n + 1) ** 2) for n in range(10)]
    (axes,) = over_days(days, lines).axes
    assert axes.get_ylim()[1] < 40
    assert over_days(days[:1], lines[:1]).axes
