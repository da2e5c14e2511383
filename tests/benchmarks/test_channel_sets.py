"""The versions whose price `mtmh bench channels` tells: each has its channels, from one run."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.channels import CHANNELS, CLUSTERS, with_channels
from benchmarks.random_version import make_run
from mtmh.retrieval.retriever import Retriever


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(300, tmp_path_factory.mktemp("channels"))


@pytest.mark.parametrize("name", CHANNELS)
def test_a_version_has_the_channels_of_its_set(name: str, run: Path, tmp_path: Path) -> None:
    retriever = Retriever.load(with_channels(run / "retriever", CHANNELS[name], tmp_path / "out"))
    expected = [channel.get("name", channel["head"]) for channel in CHANNELS[name]]
    assert retriever.names == expected
    assert sum(channel.quota for channel in retriever.channels) == 100


def test_the_clusters_divide_the_catalog_and_are_the_same_in_both_heads(
    run: Path, tmp_path: Path
) -> None:
    channels = CHANNELS["heads x clusters"]
    retriever = Retriever.load(with_channels(run / "retriever", channels, tmp_path / "out"))
    allowed = list(retriever.allowed.values())
    assert len(allowed) == 2 * CLUSTERS
    for engagement, relevance in zip(allowed[:CLUSTERS], allowed[CLUSTERS:], strict=True):
        np.testing.assert_array_equal(engagement, relevance)
    assert sorted(np.concatenate(allowed[:CLUSTERS])) == list(range(len(retriever.items)))
