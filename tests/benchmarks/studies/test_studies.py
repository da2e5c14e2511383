"""The benchmarks of settings: their rules on invented figures, and both over a tiny world, sharing their trials."""

import json
from pathlib import Path

import pytest

from benchmarks import ablation, cold, quality, result, sweep, trials
from benchmarks.studies.ablation import Part, difference, judge, table, verdict
from benchmarks.studies.study import Setting, spread
from mtmh.data.files import write_parquet
from mtmh.data.synthetic import make_world
from mtmh.errors import UserError
from pipelines.trial import Figures

UP, DOWN, OPEN = spread([0.01, 0.02, 0.03]), spread([-0.01, -0.02, -0.03]), spread([-0.01, 0.02, 0.03])


def run(recall: float, relevance: float = 0.3, cold: float | None = None) -> Figures:
    one = {"recall_at_20": recall / 5, "recall_at_500": recall, "l1_relevance": 0.5, "l2_relevance": relevance}
    return {model: {**one, "cold_recall_at_500": cold} for model in ("engagement_head", "relevance_head", "merged")}


@pytest.mark.parametrize(
    ("recall", "relevance", "said"),
    [
        (UP, UP, "pays"),
        (UP, OPEN, "pays"),
        (OPEN, UP, "pays"),
        (DOWN, OPEN, "does not pay"),
        (OPEN, DOWN, "does not pay"),
        (DOWN, DOWN, "does not pay"),
        (OPEN, OPEN, "undecided: within the spread"),
        (UP, DOWN, "undecided: recall up, L2 down"),
        (DOWN, UP, "undecided: recall down, L2 up"),
        (spread([0.0, 0.1, 0.2]), OPEN, "undecided: within the spread"),
    ],
)
def test_a_part_pays_when_every_seed_says_so_and_nothing_is_paid_for_it(
    recall: dict, relevance: dict, said: str
) -> None:
    assert verdict(recall, relevance) == said


def test_differences_are_paired_by_seed() -> None:
    """Seeds differ by far more than the part does."""
    gain = difference([run(0.31), run(0.42), run(0.53)], [run(0.30), run(0.40), run(0.50)])["merged"]
    assert gain["recall_at_500"] == {"mean": 0.02, "min": 0.01, "max": 0.03}
    assert gain["l2_relevance"] == {"mean": 0, "min": 0, "max": 0}
    assert "cold_recall_at_500" not in gain  # the data could not give it


@pytest.mark.parametrize("logq", [True, False])
def test_a_part_is_with_less_without_whichever_is_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, logq: bool
) -> None:
    part = Part(("train.logq=true",), ("train.logq=false",), never="a reason")
    real = trials.config_of
    monkeypatch.setattr(
        ablation, "config_of", lambda data, setting=(): real(data, (f"train.logq={str(logq).lower()}", *setting))
    )
    told = judge(tmp_path, part, {part.on: [run(0.4, cold=0.1)], part.off: [run(0.3, cold=0.2)]})
    assert (told["default"], told["verdict"]) == ("on" if logq else "off", "pays")
    assert told["other"]["merged"]["recall_at_500"]["mean"] == (0.3 if logq else 0.4)
    lines = table({"logQ": told})
    assert f"logQ (default: {'on' if logq else 'off'}): pays; never a default: a reason" in lines[1]
    assert [line.split()[0] for line in lines[2:]] == ["engagement_head", "relevance_head", "merged"]
    assert "R@500 +10.00 [+10.00, +10.00]" in lines[-1]
    assert "R cold -10.00" in lines[-1]


def test_every_part_can_be_set_and_changes_something(tmp_path: Path) -> None:
    for part in ablation.PARTS.values():
        on, off = (trials.config_of(tmp_path, side) for side in (part.on, part.off))
        assert on != off
        assert trials.config_of(tmp_path) in (on, off)


def swept(found: dict[str, dict[float, list[Figures]]]) -> dict[Setting, list[Figures]]:
    return {sweep.setting(name, value): runs for name, values in found.items() for value, runs in values.items()}


def test_changes_are_in_percent_of_the_reference_at_the_same_seed() -> None:
    values = {
        value: [run(0.2 * scale), run(0.4 * scale)]
        for value, scale in zip(sweep.SWEPT["w_r"][0], (0.5, 0.9, 1, 1.1, 2), strict=True)
    }
    told = sweep.changes(swept({"w_r": values}), "w_r")
    assert told[0.0]["recall_at_500"] == {"mean": -50, "min": -50, "max": -50}
    assert told[0.5]["recall_at_500"]["mean"] == 0
    lines = sweep.table({"w_r": told})
    assert "paper -2.99, -19.87" in lines[1]
    assert [line for line in lines if line.endswith("(reference)")] == [lines[3]]
    assert "recall@500 +100.00 [+100.00, +100.00]" in lines[5]


def test_relevance_rises_only_where_every_step_of_w_r_raises_it() -> None:
    relevances = zip((0.1, 0.2, 0.3, 0.4, 0.5), (0.1, 0.2, 0.3, 0.25, 0.5), strict=True)
    values = {
        value: [run(0.4, r) for r in seeds] for value, seeds in zip(sweep.SWEPT["w_r"][0], relevances, strict=True)
    }
    assert sweep.relevance_rises(swept({"w_r": values})) == [True, False]


def test_data_that_cannot_give_the_metric_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trials, "try_out", lambda *_: {"merged": {"l2_relevance": None, "cold_recall_at_500": 0.1}})
    with pytest.raises(UserError, match="has no L2 topics: there is no relevance to compare"):
        trials.try_all(tmp_path, [()])


def test_a_missing_folder_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MTMH_BENCH_DATA", f"{tmp_path} {tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match="nowhere; name the data sets in MTMH_BENCH_DATA"):
        quality.folders()


def test_the_benchmarks_over_a_tiny_world_share_their_trials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, table_ in make_world(users=120, items=90, days=20, seed=0).tables.items():
        write_parquet(table_, tmp_path / "tiny" / f"{name}.parquet")
    out = tmp_path / "results"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MTMH_BENCH_DATA", "tiny")
    monkeypatch.setattr(trials, "SEEDS", (0, 1))
    monkeypatch.setattr(result, "FOLDER", out)
    monkeypatch.setattr(sweep, "FOLDER", out)
    monkeypatch.setattr(
        ablation, "PARTS", {"logQ": ablation.PARTS["logQ"], "cold": ablation.PARTS["cold items by content"]}
    )
    monkeypatch.setattr(sweep, "SWEPT", {"w_r": ((0.0, 0.5), 0.5), "tau_p": ((0.1,), 0.1), "tau_q": ((0.05,), 0.05)})
    ablation.main()
    models = len(list(tmp_path.glob("runs/.scratch/trials/tiny/*/train/*")))
    assert models == 2 * 2  # with and without logQ; the cold items' places are not trained
    sweep.main()
    assert len(list(tmp_path.glob("runs/.scratch/trials/tiny/*/train/*"))) == models + 2  # w_r 0
    told = json.loads((out / "ablation_tiny.json").read_text())
    assert told["details"]["parts"]["cold"]["default"] == "on"
    assert told["details"]["seeds"] == 2
    merged = json.loads((out / "sweep_tiny.json").read_text())["details"]["merged"]
    assert merged["train.w_r=0.5"]["recall_at_500"]["mean"] == pytest.approx(told["value"], abs=1e-4)
    assert (out / "sweep.png").stat().st_size > 10_000
    monkeypatch.setenv("MTMH_BENCH_SWEPT", "w_r")
    sweep.main()
    ((label, changes),) = sweep.kept().items()
    assert label.startswith("tiny (at w_r 0.5: recall ")
    assert list(changes) == ["w_r"]
    monkeypatch.setenv("MTMH_BENCH_SWEPT", "w_r tau")
    with pytest.raises(UserError, match=r"no 'tau' to sweep; write some of w_r, tau_p, tau_q"):
        sweep.main()
    cold.main()
    found = json.loads((out / "cold_tiny.json").read_text())
    variants = found["details"]["variants"]
    assert set(variants) == set(cold.VARIANTS)
    assert found["baseline"] == variants[cold.IDS_ALONE]["merged"]["cold_recall_at_500"]["mean"]
    assert found["value"] == max(told["merged"]["cold_recall_at_500"]["mean"] for told in variants.values())
    assert len(list(tmp_path.glob("runs/.scratch/trials/tiny/*/train/*"))) == models + 2 + 2 * 2  # ids alone; dropout
