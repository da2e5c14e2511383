"""Effects beside the daily metrics of the same place: two ways to the same figures."""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest
from helpers.watched import ARMS, FIRST, draw, make_place

from mtmh.experiment.data import experiment_data
from mtmh.experiment.folder import open_experiment
from mtmh.experiment.metrics import METRICS, daily
from mtmh.experiment.statistics import effects, pre_period
from mtmh.experiment.units import item_counts, user_days


def test_effects_have_the_means_of_the_daily_metrics(tmp_path: Path) -> None:
    place = open_experiment(make_place(tmp_path / "watched", *draw(seed=4, users=60)))
    found = experiment_data(place)
    by_day = daily(found)
    compared = {
        each.metric: each
        for each in effects(user_days(found).to_pyarrow(), item_counts(found).to_pyarrow(), *ARMS)
    }
    assert list(compared) == list(METRICS)
    smaller = int(
        np.argmin(compared["gini"].users)
    )  # set metrics: the other arm is brought to its size
    for name in ("daily_active_users", "distinct_item_views", "topic_entropy", "gini"):
        for number, arm in enumerate(ARMS):
            own = by_day.filter(pc.equal(by_day["arm"], arm)).sort_by("day")
            figures, users = own[name].to_numpy(), own["users"].to_numpy()
            mean = np.mean(figures)
            if (
                METRICS[name].is_ratio
            ):  # a day's users are those seen by its end, an effect's those seen on any day
                mean = np.mean(figures * users) / users[-1]
            value = (compared[name].control, compared[name].treatment)[number]
            if METRICS[name].is_ratio or number == smaller:
                assert value == pytest.approx(mean), (name, arm)


def test_the_history_of_a_place_is_a_pre_period(tmp_path: Path) -> None:
    place = open_experiment(make_place(tmp_path / "watched", *draw(seed=4, users=60)))
    before = pre_period(place.history, FIRST)
    assert before.column_names == ["user_id", "active"]  # this history has no dwell
    assert 0 < before.num_rows <= 60
    assert effects(user_days(experiment_data(place)).to_pyarrow(), None, *ARMS, before=before)
