"""Steps of a cluster that shares no volume: data and scratch lie in a bucket of a real S3 server."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.checkerboard import Stages, train_settings
from helpers.s3_server import reach, s3_server
from kfp import dsl

from components.train import train
from mtmh import object_store
from mtmh.config import DataSettings
from mtmh.data.prepare import fingerprint, prepare
from mtmh.data.synthetic import make_world
from mtmh.errors import UserError

ROOT = Path(__file__).parents[2]
# The step as its pod runs it, with more checkpoints and looks than usual: the world is small.
TRAIN = """
import sys
from kfp import dsl
import mtmh.scratch, mtmh.training.loop as loop
from components.train import train
mtmh.scratch.PAUSE, loop.CHECKPOINT_EVERY = 0.05, 40
names = ("prepared", "features", "content", "pairs")
inputs = {name: dsl.Dataset(name=name, uri=path) for name, path in zip(names, sys.argv[4:])}
model = dsl.Model(name="model", uri=sys.argv[1])
train.python_func(
    **inputs, settings=sys.argv[2], seed=0, scratch=sys.argv[3], code_version="c0de", model=model
)
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("s3")
    (folder / "bucket").mkdir()
    with s3_server(folder) as served:
        yield served


@pytest.fixture(autouse=True)
def _client(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    reach(monkeypatch, environment)
    monkeypatch.setitem(object_store.RETRIES, "max_retries", 1)


def test_data_at_a_url_are_prepared_as_those_on_a_disk(tmp_path: Path) -> None:
    source, url = tmp_path / "mine", "s3://bucket/mine"
    source.mkdir()
    for name, table in make_world(60, 50, 20, seed=3).tables.items():
        pq.write_table(table, source / f"{name}.parquet")
    object_store.put(source, url)
    for location, out in ((str(source), "disk"), (url, "bucket")):
        prepare(location, tmp_path / out, DataSettings(), 0)
    for name in ("interactions.parquet", "items.parquet"):
        assert pq.read_table(tmp_path / "disk" / name) == pq.read_table(tmp_path / "bucket" / name)
    # Changed data, or columns of other names, are other data.
    before = fingerprint(url, DataSettings(), 0)
    assert fingerprint(url, DataSettings(columns={"user_id": "uid"}), 0) != before
    pq.write_table(pq.read_table(source / "items.parquet").slice(1), source / "items.parquet")
    object_store.put(source, url)
    assert fingerprint(url, DataSettings(), 0) != before


def test_a_url_without_data_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="s3://bucket/nothing: nothing lies there"):
        fingerprint("s3://bucket/nothing", DataSettings(), 0)
    with pytest.raises(UserError, match="s3://bucket/nothing: nothing lies there"):
        prepare("s3://bucket/nothing", tmp_path, DataSettings(), 0)


def test_a_training_whose_pod_and_disk_are_gone_goes_on_from_the_bucket(
    world: Stages, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scratch, settings = "s3://bucket/scratch", train_settings(epochs=6).model_dump_json()
    names = ("prepared", "features", "content", "pairs")
    folders = {name: str(getattr(world, name)) for name in names}
    command = [sys.executable, "-c", TRAIN, str(tmp_path / "killed"), settings, scratch]
    (tmp_path / "disk").mkdir()  # of the first pod
    first = subprocess.Popen(
        [*command, *folders.values()],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path / "disk"), "PYTHONPATH": str(ROOT)},
    )
    while not object_store.listed(scratch):
        assert first.poll() is None
        time.sleep(0.02)
    first.kill()
    first.wait()
    train.python_func(
        **{name: dsl.Dataset(name=name, uri=path) for name, path in folders.items()},
        settings=settings,
        seed=0,
        scratch=scratch,
        code_version="c0de",
        model=dsl.Model(name="model", uri=str(tmp_path / "model")),
    )
    assert re.search("train: goes on from step [1-9]", capsys.readouterr().out)
    assert object_store.listed(scratch) == {}  # a training that ended needs no checkpoint
