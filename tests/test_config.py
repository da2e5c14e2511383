"""Configurations: one error names every wrong key and value; the sizes are valid."""

import re
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


@pytest.mark.parametrize(
    ("setting", "key", "advice"),
    [
        ("trian.memory=4Gi", "cluster.steps", "no such step: trian. The steps are identify, prep"),
        ("train.memry=4Gi", "cluster.steps.train.memry", "Did you mean 'memory'?"),
        ("train.memory=64GB", "cluster.steps.train.memory", "'64GB' is no amount of memory"),
        ("train.memory=64", "cluster.steps.train.memory", "such as 64Gi"),
        ("train.memory=1.5Gi", "cluster.steps.train.memory", "a whole number"),
        ("train.memory=64K", "cluster.steps.train.memory", "'64K' is no amount"),
        ("train.cpu=four", "cluster.steps.train.cpu", "'four' is no number of CPUs"),
        ("train.cpu=0", "cluster.steps.train.cpu", "4, 0.5 or 500m"),
        ("train.gpus=4", "cluster.steps.train.gpus", "a step uses one GPU"),
        ("index.gpus=1", "cluster.steps", "index would have a GPU and not use it"),
        ("train.deadline=0", "cluster.steps.train.deadline", "greater than or equal to 1"),
    ],
)
def test_what_kubernetes_would_not_take_or_nobody_use_is_refused_where_it_is_written(
    setting: str, key: str, advice: str
) -> None:
    with pytest.raises(UserError) as caught:
        load_config(settings=[f"cluster.steps.{setting}"])
    assert f"  {key}: " in str(caught.value)
    assert advice in str(caught.value)


@pytest.mark.parametrize(
    ("heads", "key", "advice"),
    [
        (
            "[{name: a, l_e: 1}, {name: b, l_r: 1}, {name: a, l_r: 2}]",
            "train.heads",
            "'a' is there more than once",
        ),
        ("[{name: a, l_e: 1}, {name: b}]", "train.heads.1", "weights of head 'b' are all 0"),
        ("[{name: a, l_e: -1}]", "train.heads.0.l_e", "greater than or equal to 0"),
        ("[{name: a, w_r: 1}]", "train.heads.0.w_r", "no such setting"),
        ("[{name: ../a, l_e: 1}]", "train.heads.0.name", "found '../a'"),
        ("[{name: content, l_e: 1}]", "train.heads.0", "'content' is no name for a head"),
        ("[{name: merge, l_e: 1}]", "train.heads.0", "'merge' is no name for a head"),
        ("[{name: retrieve_a, l_e: 1}]", "train.heads.0", "'retrieve_a' is no name for a head"),
    ],
)
def test_heads_that_cannot_be_are_one_clear_message(heads: str, key: str, advice: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config(settings=[f"train.heads={heads}"])
    message = str(caught.value)
    assert "1 error" in message
    assert f"  {key}: " in message
    assert advice in message


@pytest.mark.parametrize(
    ("channels", "advice"),
    [
        ("[{head: engagement, quota: 50}, {head: relevance, quota: 40}]", "are 90 in all"),
        (
            "[{head: relevance, quota: 50}, {head: relevance, quota: 50}]",
            "'relevance' is there more than once",
        ),
        ("[{head: engagement, quota: 40}, {head: relevance, quota: 60}]", "Write alpha: 40."),
        ("[{head: engagement, quota: 50}, {head: deep, quota: 50}]", "names 'deep', and the heads"),
        ("[{head: engagement, quota: 150}, {head: relevance, quota: -50}]", "2 errors"),
        (
            "[{head: relevance, quota: 100, items: news}]",
            "'news' names no items. Write 'topic:NAME'",
        ),
        ("[{head: relevance, quota: 100, items: 'cluster:5/4'}]", "write one from 1 to 4"),
        (
            "[{head: relevance, quota: 100, items: 'topic:news'}]",
            "has the head's name, which stands for all items. Give it another one",
        ),
        ("[{head: relevance, quota: 100, items: 'cluster:0/4'}]", "numbered from 1"),
        ("[{head: relevance, quota: 100, items: 'fresh:0'}]", "Write hours above 0: 'fresh:48'"),
        ("[{head: relevance, quota: 100, name: content}]", "'content' is no name for a channel"),
        (
            "[{head: engagement, quota: 50, name: a}, {head: relevance, quota: 50, name: a}]",
            "'a' is there more than once. Give each channel a name of its own, such as",
        ),
    ],
)
def test_channels_that_cannot_be_are_one_clear_message(channels: str, advice: str) -> None:
    with pytest.raises(UserError, match=re.escape(advice)):
        load_config(settings=[f"retrieval.channels={channels}"])


def test_heads_and_another_short_form_of_them_are_not_both_written() -> None:
    heads = "train.heads=[{name: a, l_e: 1}]"
    with pytest.raises(UserError, match=r"objective is stmh, the short form .* Write objective"):
        load_config(settings=[heads, "train.objective=stmh"])
    assert load_config(settings=[heads]).train.loss_weights() == {"a": (1.0, 0.0)}


def test_a_line_of_the_table_that_is_written_in_part_keeps_the_rest() -> None:
    steps = load_config(settings=["cluster.steps.train.cpu=8"]).cluster.steps
    assert steps["train"] == Config().cluster.steps["train"].model_copy(update={"cpu": "8"})
    assert steps["content"] == Config().cluster.steps["content"]


def test_no_gpu_is_reserved_for_a_step_that_computes_on_the_cpu() -> None:
    with pytest.raises(UserError, match=r"cluster\.steps\.content\.gpus is 1, .* Write 0"):
        load_config(settings=["cluster.steps.content.gpus=1", "content.device=cpu"])


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
