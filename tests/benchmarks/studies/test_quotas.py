"""The study of quotas: its comparisons on invented figures, and all of it over a tiny world."""

import json
from pathlib import Path

import numpy as np
import pytest
from helpers.checkerboard import Stages

from benchmarks import result
from benchmarks.studies import quotas
from benchmarks.studies.alphas import BEST, CEILING, Given, past_of
from mtmh.data.files import write_parquet
from mtmh.data.prepared import Prepared
from mtmh.data.synthetic import make_world


def given(recall: list[float], matches: list[int]) -> Given:
    users = len(recall)
    columns = np.tile(np.array(recall)[:, None], (1, 4))
    return Given(columns, np.array(matches), np.full(users, 10), np.full(users, 50.0))


def test_equal_relevance_is_between_the_fixed_alphas_around() -> None:
    # L2 falls from 0.9 by 0.05 an alpha, recall of the first user rises by 0.1.
    run = {
        name: given([0.1 * number, 0.2], [9 - number // 2, 9 - (number + 1) // 2])
        for number, name in enumerate(quotas.FIXED)
    }
    run["ours"] = given([0.5, 0.5], [7, 7])
    assert run["ours"].relevance == run[quotas.FIXED[4]].relevance
    assert quotas.at_equal_relevance(run, "ours") == pytest.approx([0.4, 0.2])
    run["ours"] = Given(run["ours"].recall, np.array([27, 28]), np.full(2, 40), np.full(2, 50.0))
    assert quotas.at_equal_relevance(run, "ours") == pytest.approx([0.425, 0.2])


def test_differences_average_a_users_seeds_before_users_are_resampled() -> None:
    rng = np.random.default_rng(0)
    base = rng.random(50)
    runs = []
    for sign in (-1, 1):
        run = {name: given(list(base), [5] * 50) for name in (BEST, *quotas.FIXED)}
        run["ours"] = given(list(base + 0.01 + sign * 0.2), [6] * 50)
        runs.append(run)
    difference = quotas.differences(runs, "ours")
    # The seeds cancel out, and then every user has gained the same.
    assert difference["recall_at_500"] == {"mean": 0.01, "low": 0.01, "high": 0.01}
    assert difference["l2_relevance"]["low"] == pytest.approx(0.1)


def test_the_past_is_the_events_before_the_tail_split_again(
    world_prepared: Prepared,
) -> None:
    past = past_of(world_prepared)
    before = int(world_prepared.is_train.sum())
    assert len(past.user) == before
    assert past.is_train.sum() == int(before * 0.9)
    assert past.timestamp[past.is_train].max() <= past.timestamp[~past.is_train].min()


@pytest.fixture
def world_prepared(world: Stages) -> Prepared:
    return Prepared.load(world.prepared)


def test_the_study_measures_every_strategy_and_reads_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, table in make_world(users=120, items=90, days=20, seed=0).tables.items():
        write_parquet(table, tmp_path / "tiny" / f"{name}.parquet")
    monkeypatch.chdir(tmp_path)
    for module in (result, quotas):
        monkeypatch.setattr(module, "FOLDER", tmp_path / "results")
    small = ["train.epochs=1", "retrieval.pool=20"]
    quotas.main(["tiny"], seeds=1, settings=small)
    first = json.loads((tmp_path / "results" / "quotas_tiny.json").read_text())["details"]
    rows = first["strategies"]
    assert set(quotas.FIXED) < set(rows)
    ceiling = rows[CEILING]["recall_at_500"]["mean"]
    for name, row in rows.items():
        assert 0 <= row["recall_at_20"]["mean"] <= row["recall_at_500"]["mean"] <= 1
        if name != "snake merge" and "regression" not in name and "cross" not in name:
            assert row["recall_at_500"]["mean"] <= ceiling + 1e-9
        difference = row.get("difference", {}).get("recall_at_500")
        assert difference is None or difference["low"] <= difference["mean"] <= difference["high"]
    assert (tmp_path / "results" / "quotas.png").stat().st_size > 10_000
    capsys.readouterr()
    quotas.main(["tiny"], seeds=1, settings=small)
    assert "index:" not in capsys.readouterr().out  # nothing was made again
    again = json.loads((tmp_path / "results" / "quotas_tiny.json").read_text())["details"]
    assert again == first
