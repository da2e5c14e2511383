"""The steps as plain functions over temporary directories: what each reads, writes and says."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from kfp import dsl

from components.deploy import deploy
from components.pairs import pairs
from components.prepare import prepare
from components.step import running
from mtmh.config import DataSettings, PairSettings, SyntheticSettings
from mtmh.data.prepare import fingerprint
from mtmh.errors import UserError

TINY = DataSettings(synthetic=SyntheticSettings(users=60, items=50, days=20))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> dsl.Dataset:
    artifact = dsl.Dataset(
        name="prepared", uri=str(tmp_path_factory.mktemp("prepare") / "prepared")
    )
    prepare.python_func(
        source="synthetic",
        fingerprint=fingerprint("synthetic", TINY, 3),
        settings=TINY.model_dump_json(),
        seed=3,
        code_version="c0de",
        prepared=artifact,
    )
    return artifact


def test_prepare_writes_its_tables_and_its_figures(prepared: dsl.Dataset) -> None:
    out = Path(prepared.path)
    told = json.loads((out / "prepared.json").read_text())
    assert told["fingerprint"] == fingerprint("synthetic", TINY, 3)
    assert pq.read_table(out / "items.parquet").num_rows == told["items"] == 50
    assert json.loads((out / "step.json").read_text())["step"] == "prepare"


def test_pairs_reads_what_prepare_wrote(prepared: dsl.Dataset, tmp_path: Path) -> None:
    (tmp_path / "content").mkdir()
    np.save(tmp_path / "content" / "content.npy", np.eye(50, 128, dtype=np.float32))
    mined = dsl.Dataset(name="pairs", uri=str(tmp_path / "pairs"))
    pairs.python_func(
        prepared=prepared,
        content=dsl.Dataset(name="content", uri=str(tmp_path / "content")),
        settings=PairSettings(sim="soft").model_dump_json(),
        code_version="c0de",
        pairs=mined,
    )
    table = pq.read_table(Path(mined.path) / "pairs.parquet")
    assert table.num_rows > 0
    assert {"user", "trigger", "candidate", "weight"} <= set(table.column_names)


def test_a_step_marks_its_start_and_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with running("train", tmp_path / "out"):
        print("epoch 1")
    assert capsys.readouterr().out.splitlines() == [
        "::mtmh start train",
        "epoch 1",
        "::mtmh end train",
    ]
    figures = json.loads((tmp_path / "out" / "step.json").read_text())
    assert set(figures) == {"step", "seconds", "peak_memory_mb"}


def test_a_users_mistake_is_marked_with_its_whole_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError), running("train", tmp_path / "out"):
        raise UserError("first line\nsecond line")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == '::mtmh error train "first line\\nsecond line"'
    assert not (tmp_path / "out" / "step.json").exists()


def run_with_verdict(place: Path, passed: bool) -> dsl.Artifact:
    (place / "retriever").mkdir(parents=True)
    (place / "metrics.json").write_text(json.dumps({"gate": {"passed": passed}}))
    return dsl.Artifact(name="run", uri=str(place))


@pytest.mark.parametrize(("approved", "verdict"), [(True, False), (False, True), (False, False)])
def test_deploy_looks_at_the_verdict_again(tmp_path: Path, approved: bool, verdict: bool) -> None:
    run = run_with_verdict(tmp_path / "run", verdict)
    package = dsl.Artifact(name="package", uri=str(tmp_path / "package"))
    place, store = str(tmp_path / "champion"), str(tmp_path / "store")
    with pytest.raises(UserError, match="did not pass the gate"):
        deploy.python_func(
            run=run, package=package, approved=approved, version="1", champion_link=place, store=store,
            model_name="mtmh-tiny", tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
        )  # fmt: skip
    assert not (tmp_path / "mlflow.db").exists()
    assert not (tmp_path / "champion").exists()
    assert not (tmp_path / "store").exists()
