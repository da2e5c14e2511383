"""A training whose process is killed, started again by the same step as a cluster does."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.checkerboard import Stages, train_settings, write_stages
from safetensors.numpy import load_file

TRAIN = """
import sys
from kfp import dsl
from components.train import train
from mtmh.training import loop

loop.CHECKPOINT_EVERY = 40  # as often for its seconds as hours have one
prepared, features, content, pairs, settings, scratch, out = sys.argv[1:]
inputs = dict(prepared=prepared, features=features, content=content, pairs=pairs)
artifacts = {name: dsl.Dataset(name=name, uri=uri) for name, uri in inputs.items()}
train.python_func(
    **artifacts, settings=settings, seed=0, scratch=scratch, code_version="c0de",
    model=dsl.Model(name="model", uri=out),
)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Stages:
    return write_stages(tmp_path_factory.mktemp("world"))


def start(world: Stages, scratch: Path, out: Path) -> "subprocess.Popen[str]":
    """The step train, 360 steps, in a process of its own: all three must compute alike."""
    folders = [world.prepared, world.features, world.content, world.pairs]
    words = [*folders, train_settings(epochs=3).model_dump_json(), scratch, out]
    command = [sys.executable, "-c", TRAIN, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_weights(
    world: Stages, tmp_path: Path
) -> None:
    whole = start(world, tmp_path / "scratch-of-another", tmp_path / "whole")
    # Killed as the kernel does it, once there is something to go on from.
    scratch = tmp_path / "scratch"
    killed = start(world, scratch, tmp_path / "killed")
    while killed.poll() is None and not list(scratch.glob("checkpoints/c0de/*.pt")):
        time.sleep(0.002)
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    # The next try is another pod: its output is empty, the volume is as it was left.
    again = start(world, scratch, tmp_path / "again")
    said, _ = again.communicate()
    whole.communicate()
    assert (again.returncode, whole.returncode) == (0, 0)
    assert "train: goes on from step " in said
    weights = load_file(tmp_path / "again" / "weights.safetensors")
    expected = load_file(tmp_path / "whole" / "weights.safetensors")
    assert weights.keys() == expected.keys()
    for name, weight in expected.items():
        assert (weights[name] == weight).all(), name
    assert not list(scratch.glob("checkpoints/c0de/*"))
