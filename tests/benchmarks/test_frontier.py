"""The frontier over (w_r, tau_q, alpha): which points are on it, and all of it over a tiny world."""

import json
from pathlib import Path

import pytest

from benchmarks import result
from benchmarks.leaderboard import frontier, page, study
from benchmarks.leaderboard.frontier import is_above
from mtmh.data.files import write_parquet
from mtmh.data.synthetic import make_world
from mtmh.errors import UserError

SMALL = ["train.epochs=1", "train.embedding_dim=16", "train.hidden=[16]", "train.out_dim=16"]
SMALL += ["retrieval.pool=25"]


@pytest.mark.parametrize(
    ("point", "above"),
    [((0.3, 0.2), True), ((0.2, 0.2), False), ((0.2, 0.3), True), ((0.3, 0.1), False)],
)
def test_above_is_as_much_of_both_and_more_of_one(point: tuple[float, float], above: bool) -> None:
    assert is_above(point, (0.2, 0.2)) == above


def test_each_alpha_of_each_model_is_a_point_beside_the_leaderboards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, table in make_world(users=120, items=90, days=20, seed=0).tables.items():
        write_parquet(table, tmp_path / "tiny" / f"{name}.parquet")
    monkeypatch.chdir(tmp_path)
    for module in (result, frontier):
        monkeypatch.setattr(module, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    study.main("tiny", ["popularity", "content", "mtmh"], seeds=1, trials=1, settings=SMALL)
    monkeypatch.setattr(frontier, "GRID", [(0.5, 0.05), (5.0, 0.05)])
    frontier.main(["tiny"], seeds=1, settings=SMALL)
    kept = json.loads((tmp_path / "results" / "frontier_tiny.json").read_text())
    details = kept["details"]
    points = {(point["w_r"], point["alpha"]): point for point in details["points"]}
    assert set(points) == {(w_r, alpha) for w_r in (0.5, 5.0) for alpha in frontier.ALPHAS}
    # One that is on the frontier has none above it, and each other one has.
    means = [[point[axis]["mean"] for axis in frontier.AXES] for point in points.values()]
    for point, mean in zip(points.values(), means, strict=True):
        assert point["on_frontier"] == (not any(is_above(other, mean) for other in means))
    # The settings that serve are a point of the grid like the others.
    assert points[0.5, 50]["recall_at_500"] == details["served"]["recall_at_500"]
    # And that of the leaderboard's mtmh, which chose all other settings.
    board = json.loads((tmp_path / "results" / "leaderboard_tiny.json").read_text())["models"]
    assert "train.lr=0.05" in details["base"]
    for axis in frontier.AXES:
        assert points[0.5, 50][axis]["mean"] == board["mtmh"][axis]["mean"]
    assert set(details["models"]) == {"popularity", "content"}
    for name, mean in details["models"].items():
        assert (name in details["beyond"]) == (not any(is_above(other, mean) for other in means))
    assert (kept["value"], kept["baseline"]) == (len(details["beyond"]), 2)
    assert (tmp_path / "results" / "frontier_tiny.png").stat().st_size > 10_000
    capsys.readouterr()
    frontier.main(["tiny"], seeds=1, settings=SMALL)
    assert "pairs/s" not in capsys.readouterr().out  # trained models are read


def test_data_without_topics_have_no_frontier(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = make_world(users=120, items=90, days=20, seed=0).tables
    tables["items"] = tables["items"].drop_columns(["l1_topics", "l2_topics"])
    for name, table in tables.items():
        write_parquet(table, tmp_path / "tiny" / f"{name}.parquet")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="tiny has no L2 topics: there is no relevance to compare"):
        frontier.main(["tiny"], seeds=1, settings=SMALL)
