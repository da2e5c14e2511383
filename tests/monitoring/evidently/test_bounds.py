"""Bounds: which figures they hold for, what is said of a broken one, and of a file that is
wrong.
"""

from datetime import date
from pathlib import Path

import pytest

from monitoring.evidently.bounds import DEFAULT, Bounds, broken, read_bounds, retraining
from monitoring.evidently.figures import table, tables
from mtmh.errors import UserError

DAY = date(2025, 3, 2)


def bounds(**families: object) -> Bounds:
    return Bounds.model_validate({"bounds": families, "retrain": ["drift"]})


def test_a_figure_on_the_bound_is_within() -> None:
    figures = table(
        DAY, "drift", "mtmh", {"l1_topic": 0.2, "log_age_days": 0.3, "score_relevance": 0.31}
    )
    found = broken(figures, bounds(drift={"*": {"max": 0.3}, "l1_topic": {"max": 0.1}}))
    assert [(one.label, one.value) for one in found] == [
        ("l1_topic", 0.2),
        ("score_relevance", 0.31),
    ]
    assert "Scores, relevance head is 0.31; wanted at most 0.3" in str(found[1])


def test_only_the_named_families_retrain() -> None:
    figures = tables(
        [
            table(DAY, "drift", "a", {"l1_topic": 1}),
            table(DAY, "freshness", "a", {"fresh_coverage": 0}),
        ]
    )
    limits = bounds(drift={"*": {"max": 0.5}}, freshness={"fresh_coverage": {"min": 0.1}})
    found = broken(figures, limits)
    assert [one.family for one in found] == ["drift", "freshness"]
    assert [one.family for one in retraining(found, limits)] == ["drift"]


def test_what_could_not_be_measured_breaks_nothing() -> None:
    figures = table(DAY, "drift", "a", {"l1_topic": None, "log_age_days": float("nan")})
    assert figures.num_rows == 0
    assert broken(figures, bounds(drift={"*": {"max": 0}})) == []


def test_the_projects_own_bounds_are_read() -> None:
    limits = read_bounds(DEFAULT)
    assert {"freshness", "drift"} <= set(limits.retrain) <= set(limits.bounds)
    assert limits.of("embeddings", "engaged") == limits.bounds["embeddings"]["*"]
    assert limits.of("online", "time_spent") is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "bounds: {freshnes: {fresh_share: {min: 0}}}",
            "no family of figures: freshnes; known: online",
        ),
        ("bounds: {drift: {l1_topic: {most: 1}}}", "bounds.drift.l1_topic.most"),
        ("bounds: {drift: {l1_topic: {min: 2, max: 1}}}", "min 2.0 lies above max 1.0"),
        ("bounds: {drift: {l1_topic: {}}}", "a bound needs a min or a max"),
        ("retrain: drift", "retrain"),
        ("bounds: {a: [", "no YAML"),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "bounds.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"bounds\.yaml") as error:
        read_bounds(path)
    assert told in str(error.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        read_bounds(tmp_path / "nowhere.yaml")
