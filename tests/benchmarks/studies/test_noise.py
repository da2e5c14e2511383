"""The study of noise in the teacher: what is replaced, and all of it over a tiny world."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import result
from benchmarks.studies import noise
from benchmarks.studies.noise import noisy
from mtmh.data.files import write_parquet
from mtmh.data.synthetic import make_world

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(40, 3)).astype(np.float32)
VECTORS[::8] = 0  # no content
TOPIC = np.arange(40) % 4
HAS = VECTORS.any(axis=1)


@pytest.mark.parametrize("kind", noise.KINDS)
def test_a_share_of_those_with_content_is_replaced(kind: str) -> None:
    changed = [(noisy(VECTORS, TOPIC, kind, s, 0) != VECTORS).any(axis=1) for s in (0, 0.4, 1)]
    assert not changed[0].any()
    assert changed[1].sum() == round(0.4 * HAS.sum())
    assert (changed[2] == HAS).all()
    np.testing.assert_array_equal(noisy(VECTORS, TOPIC, kind, 0.4, 0)[~HAS], 0)
    # The same items, and more.
    more = (noisy(VECTORS, TOPIC, kind, 0.7, 0) != VECTORS).any(axis=1)
    assert (more | ~changed[1]).all()


def test_random_vectors_have_unit_length_and_shuffled_ones_are_the_same_vectors() -> None:
    drawn = noisy(VECTORS, TOPIC, "random", 1.0, 0)[HAS]
    assert np.linalg.norm(drawn, axis=1) == pytest.approx(np.ones(HAS.sum()))
    for kind in ("shuffled", "shuffled in topic"):
        shuffled = noisy(VECTORS, TOPIC, kind, 1.0, 0)
        source = (shuffled[HAS][:, None] == VECTORS[HAS]).all(axis=2).argmax(axis=1)
        assert sorted(source) == list(range(HAS.sum()))
        same = TOPIC[HAS][source] == TOPIC[HAS]
        assert same.all() == (kind == "shuffled in topic")


def test_the_study_measures_every_row_and_reads_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, table in make_world(users=120, items=90, days=20, seed=0).tables.items():
        write_parquet(table, tmp_path / "tiny" / f"{name}.parquet")
    monkeypatch.chdir(tmp_path)
    for module in (result, noise):
        monkeypatch.setattr(module, "FOLDER", tmp_path / "results")
    monkeypatch.setattr(noise, "SHARES", (50,))
    monkeypatch.setattr(noise, "NOISES", [("clean", 0), *((kind, 50) for kind in noise.KINDS)])
    small = ["train.epochs=1", "prerank.epochs=1"]
    noise.main(["tiny"], seeds=1, settings=small)
    first = json.loads((tmp_path / "results" / "noise_tiny.json").read_text())["details"]["rows"]
    assert list(first) == ["clean 0 %", *(f"{kind} 50 %" for kind in noise.KINDS)]
    quality = {name: row["models"]["quality"]["auc"]["mean"] for name, row in first.items()}
    assert quality["random 50 %"] < quality["clean 0 %"]
    for row in first.values():
        assert set(row["models"]) == {*noise.MODELS, "quality"}
    assert (tmp_path / "results" / "noise_tiny.png").stat().st_size > 10_000
    capsys.readouterr()
    noise.main(["tiny"], seeds=1, settings=small)
    assert "index:" not in capsys.readouterr().out  # nothing was made again
    again = json.loads((tmp_path / "results" / "noise_tiny.json").read_text())["details"]["rows"]
    assert again == first
