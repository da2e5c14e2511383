"""Any number of channels: what a version says of them, and that two are what they were."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from helpers.checkerboard import Stages, retrieval_settings

from mtmh.config import EvaluationSettings, GateSettings
from mtmh.errors import UserError
from mtmh.evaluation.evaluate import evaluate
from mtmh.evaluation.gate import judge
from mtmh.ragged import Ragged
from mtmh.retrieval.channels import channels_in
from mtmh.retrieval.merge import quota_merge
from mtmh.retrieval.retriever import Request, Retriever
from mtmh.retrieval.version import MANIFEST, build
from serving.triton.export import write_package

Make = Callable[[str], Path]
QUOTAS = {"engagement": 40, "relevance": 45, "subject": 15}


@pytest.fixture(scope="module")
def three(world: Stages, trained: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version of three heads, each a channel with a quota of its own."""
    out = tmp_path_factory.mktemp("three")
    channels = [{"head": head, "quota": quota} for head, quota in QUOTAS.items()]
    settings = retrieval_settings(channels=channels, alpha=40)
    build(world.prepared, world.features, world.content, trained("three heads"), out, settings, 0)
    return out


def requests() -> Request:
    """Two users with a few triggers each."""
    triggers = Ragged.of([np.array([1, 5, 9], np.int32), np.array([20, 31], np.int32)])
    return Request(triggers, triggers.sorted(), 30, 12, 0.15)


def test_the_manifest_names_each_channel(three: Path, version: Make) -> None:
    channels = json.loads((three / MANIFEST).read_text())["channels"]
    assert channels == [
        {"name": head, "head": head, "quota": quota, "restriction": None}
        for head, quota in QUOTAS.items()
    ]
    two = json.loads((version("mtmh") / MANIFEST).read_text())["channels"]
    assert [(channel["name"], channel["quota"]) for channel in two] == [
        ("engagement", 50),
        ("relevance", 50),
    ]


def test_a_list_is_the_quota_merge_of_all_channels(three: Path) -> None:
    retriever = Retriever.load(three)
    request = requests()
    pools = retriever.pools(request)
    assert list(pools) == list(QUOTAS)
    best = retriever.recommend(request, alpha=40)
    merged = quota_merge([pool.item for pool in pools.values()], list(QUOTAS.values()), 12)
    np.testing.assert_array_equal(best.item, merged.item)
    np.testing.assert_array_equal(best.channel, merged.channel)
    assert set(best.channel[best.channel >= 0].tolist()) == {0, 1, 2}
    # Alpha 0 leaves nothing for the engagement head: its candidates are what the others also had.
    without = retriever.recommend(request, alpha=0)
    assert np.count_nonzero(without.channel == 0) < np.count_nonzero(best.channel == 0)


def test_a_version_from_before_channels_were_named_gives_the_same(
    version: Make, tmp_path: Path
) -> None:
    old = tmp_path / "old"
    shutil.copytree(version("mtmh"), old)
    manifest = json.loads((old / MANIFEST).read_text())
    del manifest["channels"]
    (old / MANIFEST).write_text(json.dumps(manifest))
    before, now = Retriever.load(old), Retriever.load(version("mtmh"))
    assert before.channels == now.channels
    for alpha in (0, 30, 50, 100):
        lists = [one.recommend(requests(), alpha) for one in (before, now)]
        np.testing.assert_array_equal(lists[0].item, lists[1].item)
        np.testing.assert_array_equal(lists[0].score, lists[1].score)


def test_evaluation_and_gate_take_three(world: Stages, three: Path, tmp_path: Path) -> None:
    out, verdict = tmp_path / "evaluation", tmp_path / "gate"
    out.mkdir()
    retrieval = retrieval_settings(alpha=40, alphas=[0, 100])
    settings = EvaluationSettings(sample_users=20)
    evaluate(world.prepared, world.content, three, None, out, retrieval, settings, 0)
    judge(world.prepared, out, verdict, GateSettings(bootstrap=100, min_coverage=0), seed=0)
    models = json.loads((out / "evaluation.json").read_text())["models"]
    heads = [name for name in models if name.endswith("_head")]
    assert heads == ["engagement_head", "relevance_head", "subject_head"]
    assert "merged_alpha_40" in models
    # The engagement head's name in every row of its own, and all three in the merge.
    rows = pq.read_table(out / "candidates.parquet").to_pandas()
    of_model = {model: set(part["head"]) for model, part in rows.groupby("model", observed=True)}
    assert of_model["subject_head"] == {"subject"}
    assert of_model["merged_alpha_40"] == set(QUOTAS)
    assert models["subject_head"]["l2_relevance"] > models["engagement_head"]["l2_relevance"]


def test_a_channel_of_a_head_that_is_not_there_is_refused(
    world: Stages, trained: Make, tmp_path: Path
) -> None:
    settings = retrieval_settings(channels=[{"head": "subject", "quota": 100}])
    with pytest.raises(UserError, match=r"names subject, but the model's heads are engagement, r"):
        build(world.prepared, world.features, world.content, trained("mtmh"), tmp_path, settings, 0)


def test_what_this_release_cannot_search_is_not_searched_as_if_it_could(
    version: Make, tmp_path: Path
) -> None:
    shutil.copytree(version("mtmh"), tmp_path / "restricted")
    path = tmp_path / "restricted" / MANIFEST
    manifest = json.loads(path.read_text())
    manifest["channels"][1]["restriction"] = {"topic": "subject 1"}
    path.write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"'relevance' of this version is restricted"):
        Retriever.load(tmp_path / "restricted")


def test_a_package_has_every_channel(three: Path, tmp_path: Path) -> None:
    package = write_package(three, "7", tmp_path / "package")
    serving = json.loads((package / "serving.json").read_text())
    assert channels_in(serving) == Retriever.load(three).channels
    models = json.loads((package / "manifest.json").read_text())["models"]
    expected = {f"{prefix}{head}_7" for prefix in ("", "retrieve_") for head in QUOTAS}
    assert set(models) == expected
    # A package from before its channels were named has two, by alpha.
    old = {"heads": ["engagement", "relevance"], "alpha": 30}
    assert [(channel.name, channel.quota) for channel in channels_in(old)] == [
        ("engagement", 30),
        ("relevance", 70),
    ]
