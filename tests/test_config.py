"""Configurations: one error names every wrong key and value; the sizes are valid."""

from pathlib import Path

import pytest

from mtmh.config import Config, DataSettings, load_config
from mtmh.data.contract import STATISTICS
from mtmh.errors import UserError
from pipelines.arguments import CONFIGS, layers

FIVE_ERRORS = """
sed: 1
train:
  epoch: 2
  lr: fast
  tau_p: -0.1
retrieval:
  alphas: [0, 130]
"""


def test_five_errors_are_one_message(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(FIVE_ERRORS)
    with pytest.raises(UserError) as caught:
        load_config(tmp_path / "mine.yaml")
    message = str(caught.value)
    assert "mine.yaml" in message
    assert "5 errors" in message
    for key in ("sed", "train.epoch", "train.lr", "train.tau_p", "retrieval.alphas.1"):
        assert f"  {key}: " in message
    assert "Did you mean 'seed'?" in message
    assert "Did you mean 'epochs'?" in message
    assert "'fast'" in message


def test_by_default_every_statistic_enters_the_model() -> None:
    assert tuple(DataSettings().statistics) == STATISTICS


def test_laptop_is_the_defaults_written_out() -> None:
    assert load_config(CONFIGS / "laptop.yaml") == Config()


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_configuration_is_valid(file: Path) -> None:
    load_config(CONFIGS / "laptop.yaml", file)


def test_paper_has_the_papers_settings() -> None:
    train = load_config(CONFIGS / "paper.yaml").train
    assert (train.batch_size, train.lr, train.epochs, train.w_r, train.out_dim) == (
        2048,
        0.01,
        1,
        0.5,
        128,
    )


def test_settings_win_over_files_and_later_files_over_earlier(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("train: {epochs: 3, lr: 0.2}")
    (tmp_path / "b.yaml").write_text("train: {epochs: 4}")
    train = load_config(
        tmp_path / "a.yaml", tmp_path / "b.yaml", settings=["train.w_r=2", "train.hidden=[8, 4]"]
    ).train
    assert (train.epochs, train.lr, train.w_r, train.hidden) == (4, 0.2, 2.0, [8, 4])


@pytest.mark.parametrize(
    "setting", ["train.epochs", "=3", "train.epochs=", "train=3", "train.epochs=[", "a.b.c=1"]
)
def test_a_malformed_setting_is_explained(setting: str) -> None:
    with pytest.raises(UserError, match=r"setting|configuration"):
        load_config(settings=[setting])


def test_an_overlay_is_found_by_the_name_of_the_data_folder(tmp_path: Path) -> None:
    known = sorted((CONFIGS / "data").glob("*.yaml"))
    assert layers(str(tmp_path / "unheard-of"), "laptop", None) == [CONFIGS / "laptop.yaml"]
    for overlay in known:
        own = tmp_path / "own.yaml"
        assert layers(str(tmp_path / overlay.stem), "gpu", own) == [
            CONFIGS / "gpu.yaml",
            overlay,
            own,
        ]


def test_an_unknown_size_names_the_known_ones() -> None:
    with pytest.raises(UserError, match="gpu, laptop, paper"):
        layers("synthetic", "huge", None)


def test_a_missing_file_names_its_neighbours(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("")
    with pytest.raises(UserError, match=r"other\.yaml"):
        load_config(tmp_path / "mine.yaml")
