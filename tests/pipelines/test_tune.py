"""Choosing the teacher's temperature and w_r: on T1 alone, by the documented rule."""

import json
from pathlib import Path

import pytest

from mtmh.config import load_config
from mtmh.errors import UserError
from pipelines import tune

TINY = [
    "data.synthetic={users: 150, items: 120, days: 20}",
    "train={epochs: 1, batch_size: 128, uniform_negatives: 64, embedding_dim: 8, hidden: [16], "
    "out_dim: 16}",
    "retrieval={k_ann: 50, pool: 40}",
]


def trial(
    recall: float, relevance: float | None, engagement_recall: float
) -> dict[str, float | None]:
    return {"recall": recall, "l2_relevance": relevance, "engagement_recall": engagement_recall}


def test_relevance_decides_among_settings_that_keep_recall() -> None:
    slightly_less, best, far_less = (
        trial(0.398, 0.35, 0.39),
        trial(0.40, 0.30, 0.39),
        trial(0.36, 0.60, 0.35),
    )
    assert tune.choose([slightly_less, best, far_less]) is slightly_less


def test_a_merge_below_its_engagement_head_is_not_chosen() -> None:
    unsound, sound = trial(0.40, 0.50, 0.41), trial(0.40, 0.30, 0.39)
    assert tune.choose([unsound, sound]) is sound
    assert tune.choose([unsound]) is unsound


def test_without_topics_recall_decides() -> None:
    assert tune.choose([trial(0.3, None, 0.2), trial(0.4, None, 0.2)])["recall"] == 0.4


def test_tune_never_sees_t2_and_a_run_finds_the_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "TAU_Q", (0.1,))
    monkeypatch.setattr(tune, "W_R", (0.5,))
    monkeypatch.setattr(tune, "CONFIGS", tmp_path)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "synthetic.yaml").write_text("train: {epochs: 1}\n")
    config = load_config(settings=TINY)
    result = tune.tune("synthetic", config, tmp_path / "work")
    (prepared,) = (tmp_path / "work").glob("*/prepare/*/prepared.json")
    assert json.loads(prepared.read_text())["validation"]
    assert result["chosen"] == result["trials"][0]
    assert 0 < result["chosen"]["recall"] <= 1
    read = load_config(tune.write_overlay(result))
    assert (read.train.tau_q, read.train.w_r, read.train.epochs) == (0.1, 0.5, 1)


def test_heads_with_weights_of_their_own_have_no_w_r_to_tune(tmp_path: Path) -> None:
    config = load_config(settings=[*TINY, "train.heads=[{name: engagement, l_e: 1}]"])
    with pytest.raises(UserError, match=r"train\.heads has its weights written out"):
        tune.tune("synthetic", config, tmp_path)


@pytest.mark.parametrize("objective", ["engagement", "mtsh"])
def test_one_head_has_no_merge_to_tune(objective: str, tmp_path: Path) -> None:
    config = load_config(settings=[*TINY, f"train.objective={objective}"])
    with pytest.raises(UserError, match=f"train.objective is {objective}: one head"):
        tune.tune("synthetic", config, tmp_path)
    assert not any(tmp_path.iterdir())
