"""Trials: on T1 alone, sharing what they have in common, going on from where they were."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from mtmh.config import Config, load_config
from mtmh.data.files import write_parquet
from mtmh.data.synthetic import make_world
from mtmh.evaluation import evaluate
from mtmh.training import train as training
from pipelines.runs_folder import owned
from pipelines.trial import Figures, try_out

TINY = (
    "train={epochs: 1, batch_size: 128, uniform_negatives: 64, embedding_dim: 8, hidden: [16], "
    "out_dim: 16}",
    "retrieval={k_ann: 50, pool: 40}",
    "content={dim: 16}",
)


class KilledError(Exception):
    """Stands for a power cut."""


def settings(*changes: str) -> Config:
    return load_config(settings=[*TINY, *changes])


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("world")
    for name, table in make_world(users=120, items=90, days=20, seed=0).tables.items():
        write_parquet(table, folder / f"{name}.parquet")
    return str(folder)


@pytest.fixture(scope="module")
def first(source: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Figures]:
    """The folder of one finished trial, and its figures."""
    work = tmp_path_factory.mktemp("work")
    return work, try_out(source, settings(), work)


@pytest.fixture
def work(first: tuple[Path, Figures], tmp_path: Path) -> Path:
    """The same folder, to go on in."""
    return Path(shutil.copytree(first[0], tmp_path / "work"))


def made(work: Path) -> Counter[str]:
    """How often each stage was made."""
    return Counter(path.parent.name for path in work.glob("*/*/*") if path.suffix != ".unfinished")


def test_a_trial_measures_heads_and_merge_on_validation_data(first: tuple[Path, Figures]) -> None:
    work, figures = first
    assert list(figures) == ["engagement_head", "relevance_head", "merged"]
    assert all(0 < one["recall_at_500"] <= 1 for one in figures.values())
    (prepared,) = work.glob("*/prepare/*/prepared.json")
    assert json.loads(prepared.read_text())["validation"]
    stages = ("prepare", "content", "features", "pairs", "train", "preranker", "figures")
    assert made(work) == Counter(stages)


def test_a_finished_trial_is_read_and_not_run_again(source: str, work: Path) -> None:
    (kept,) = work.glob("*/figures/*.json")
    told = json.loads(kept.read_text())
    told["figures"]["merged"]["recall_at_500"] = 0.123
    kept.write_text(json.dumps(told))
    assert try_out(source, settings(), work)["merged"]["recall_at_500"] == 0.123
    assert made(work)["train"] == 1


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ("gate.min_coverage=0.1", ""),
        ("retrieval.cold=model", "figures"),
        ("train.w_r=0.7", "train figures"),
        ("pairs.sim=soft", "pairs train figures"),
        ("prerank.weight=0.4", "preranker figures"),
        ("seed=1", "content pairs train preranker figures"),
    ],
)
def test_a_change_makes_again_what_depends_on_it_and_no_more(
    source: str, work: Path, change: str, again: str
) -> None:
    before = made(work)
    try_out(source, settings(change), work)
    assert made(work) - before == Counter(again.split())


def test_changed_data_are_not_mistaken_for_the_old(source: str, work: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(source, tmp_path / "other"))
    for name, table in make_world(users=110, items=90, days=20, seed=0).tables.items():
        write_parquet(table, other / f"{name}.parquet")
    try_out(str(other), settings(), work)
    assert made(work)["prepare"] == made(work)["figures"] == 2


def test_a_killed_trial_goes_on_behind_its_training(
    source: str, first: tuple[Path, Figures], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (kept,) = work.glob("*/figures/*.json")
    kept.unlink()

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "evaluate_heads", killed)
        with pytest.raises(KilledError):
            try_out(source, settings(), work)
    monkeypatch.setattr(training, "train", killed)  # the model is there: it is not trained again
    assert try_out(source, settings(), work) == first[1]
    assert not (kept.parent.parent / "version").exists()


def test_a_training_that_was_cut_short_is_no_result(
    source: str, first: tuple[Path, Figures], work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights were half written when it ended."""
    shutil.rmtree(next(work.glob("*/train/*")))
    next(work.glob("*/figures/*.json")).unlink()

    def killed(*arguments: Path | object) -> None:
        out = arguments[4]
        assert isinstance(out, Path)
        (out / "weights.safetensors").write_bytes(b"half")
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(training, "train", killed)
        with pytest.raises(KilledError):
            try_out(source, settings(), work)
    assert try_out(source, settings(), work) == first[1]
    assert not list(work.glob("*/train/*.unfinished"))


def test_two_series_in_one_folder_do_not_mix(source: str, work: Path) -> None:
    from mtmh.errors import UserError

    with owned(work):
        assert try_out(source, settings(), work)  # reading is free
        with pytest.raises(UserError, match="another run is going on"):
            try_out(source, settings("train.w_r=0.9"), work)
