"""Runs and schedules on a Kubeflow Pipelines server: of one user and of many, and each refusal as
one message.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.certificate import certificate
from helpers.command_line import mtmh
from helpers.kubeflow_api import Kubeflow, serve_kubeflow

from components.connection import PROJECTED, TOKEN, Connection, connected
from components.submission import Submission
from mtmh.config import Config, load_config
from mtmh.errors import UserError
from pipelines.arguments import layers, of_config

ON_VOLUME = ["--set", "cluster.volume_claim=mtmh", "--set", "cluster.local_images=true"]
PROFILE = ["--set", "cluster.kubeflow_namespace=ann"]
SECRET = "ey.a-token.sig"


@pytest.fixture
def kubeflow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kubeflow]:
    """A server of one user; no token is lying about here."""
    monkeypatch.delenv(TOKEN, raising=False)
    monkeypatch.setenv(PROJECTED, str(tmp_path / "no-token"))
    with serve_kubeflow() as served:
        yield served


@pytest.fixture
def profiles(kubeflow: Kubeflow) -> Kubeflow:
    """A server of many users, of whom the one with SECRET may work in the namespace ann."""
    kubeflow.namespaces, kubeflow.tokens = ("ann",), (SECRET,)
    return kubeflow


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(SECRET + "\n")
    return file


def submit(monkeypatch: pytest.MonkeyPatch, host: str, *words: str) -> int:
    return mtmh(monkeypatch, "submit", host, "--tracking-uri", "http://mlflow", *words)


def refused(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    host: str,
    *words: str,
) -> str:
    """The one message of a submission that is refused."""
    assert submit(monkeypatch, host, *ON_VOLUME, *words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("mtmh: ")
    assert "Traceback" not in printed.err
    return printed.err


def test_a_server_of_one_user_gets_a_version_of_the_pipeline_and_a_run_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kubeflow: Kubeflow
) -> None:
    for name in ("first", "second"):
        assert submit(monkeypatch, kubeflow.url + "/", *ON_VOLUME, "--run-name", name) == 0
    assert capsys.readouterr().out == "run run 1\nrun run 2\n"
    (pipeline,) = kubeflow.pipelines.values()
    (experiment,) = kubeflow.experiments.values()
    assert (pipeline["display_name"], experiment["display_name"]) == ("mtmh-synthetic", "mtmh")
    assert "namespace" not in {**pipeline, **experiment}
    assert [run["display_name"] for run in kubeflow.runs] == ["first", "second"]
    versions = [run["pipeline_version_reference"]["pipeline_version_id"] for run in kubeflow.runs]
    assert versions == list(kubeflow.versions)
    # Whatever has no default is said.
    for documents, run in zip(kubeflow.versions.values(), kubeflow.runs, strict=True):
        parameters = documents[0]["root"]["inputDefinitions"]["parameters"]
        needed = {name for name, each in parameters.items() if "defaultValue" not in each}
        assert needed <= set(run["runtime_config"]["parameters"])


def test_a_server_of_many_users_gets_namespace_experiment_and_token(
    monkeypatch: pytest.MonkeyPatch, profiles: Kubeflow, token_file: Path
) -> None:
    words = [*ON_VOLUME, *PROFILE, "--set", "cluster.experiment=nightly"]
    assert submit(monkeypatch, profiles.url, *words, "--token-file", str(token_file)) == 0
    monkeypatch.setenv(TOKEN, SECRET)
    assert submit(monkeypatch, profiles.url, *words) == 0
    monkeypatch.delenv(TOKEN)
    monkeypatch.setenv(PROJECTED, str(token_file))  # as in a pod
    assert submit(monkeypatch, profiles.url, *words) == 0
    (experiment,) = profiles.experiments.values()
    assert (experiment["display_name"], experiment["namespace"]) == ("nightly", "ann")
    assert {pipeline["namespace"] for pipeline in profiles.pipelines.values()} == {"ann"}
    assert len(profiles.runs) == 3


def test_a_token_is_never_a_word_of_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mtmh(monkeypatch, "submit", "--help") == 0
    printed = capsys.readouterr().out
    assert "--token-file" in printed
    assert "--token " not in printed


def test_each_refusal_is_one_message_that_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    profiles: Kubeflow,
    token_file: Path,
) -> None:
    host, token = profiles.url, ["--token-file", str(token_file)]
    message = refused(monkeypatch, capsys, host, *PROFILE)
    assert "401" in message
    assert "--token-file" in message
    message = refused(monkeypatch, capsys, host, *token)
    assert "many users" in message
    assert "cluster.kubeflow_namespace=NAME" in message
    message = refused(monkeypatch, capsys, host, *token, "--set", "cluster.kubeflow_namespace=bob")
    assert "403" in message
    assert "kubeflow-pipelines-edit" in message
    assert "namespace bob" in message
    message = refused(monkeypatch, capsys, host + "/else", *token, *PROFILE)
    assert "404" in message
    assert "/pipeline" in message
    for status, words in ((400, "not today"), (500, "ml-pipeline"), (503, "try again")):
        profiles.failing = status
        message = refused(monkeypatch, capsys, host, *token, *PROFILE)
        assert f"answers {status}" in message
        assert words in message
    profiles.page = True
    message = refused(monkeypatch, capsys, host, *token, *PROFILE)
    assert "web page" in message
    assert not profiles.runs


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("http://127.0.0.1:9", "no Kubeflow Pipelines server answers at http://127.0.0.1:9"),
        ("http://kubeflow.invalid", "no Kubeflow Pipelines server answers"),
        ("127.0.0.1:8888", "write http:// or https:// first"),
        ("http://[::1", "no Kubeflow Pipelines server answers"),
    ],
)
def test_a_wrong_host_is_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], host: str, words: str
) -> None:
    assert words in refused(monkeypatch, capsys, host)


def test_a_certificate_of_an_own_authority_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pem, key = certificate(tmp_path)
    with serve_kubeflow((pem, key)) as served:
        message = refused(monkeypatch, capsys, served.url)
        assert "--ca-file FILE" in message
        assert "--ca-file" in refused(monkeypatch, capsys, served.url, "--ca-file", str(key))
        absent = str(tmp_path / "absent.pem")
        assert absent in refused(monkeypatch, capsys, served.url, "--ca-file", absent)
        assert not served.runs
        assert submit(monkeypatch, served.url, *ON_VOLUME, "--ca-file", str(pem)) == 0


@pytest.mark.parametrize("content", ["", "two words", "a\nHost: b", "tökén", None])
def test_what_is_no_token_is_a_message(content: str | None, tmp_path: Path) -> None:
    file = tmp_path / "token"
    if content is not None:
        file.write_text(content)
    with (
        pytest.raises(UserError, match=str(file)),
        connected(Connection("http://127.0.0.1:9", token_file=file)),
    ):
        pass


def in_image(image: str, *words: str) -> subprocess.CompletedProcess[str]:
    """`mtmh` in a process whose image is `image`."""
    environment = {**os.environ, "MTMH_IMAGE": image}
    command = [sys.executable, "-m", "mtmh_cli", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_every_step_runs_in_the_image_that_it_is_told(kubeflow: Kubeflow) -> None:
    image = "registry.example.com:5000/team/mtmh-python:7"
    words = ["--tracking-uri", "http://mlflow", "--set", "cluster.volume_claim=mtmh"]
    done = in_image(image, "submit", kubeflow.url, *words)
    assert done.returncode == 0, done.stderr
    (documents,) = kubeflow.versions.values()
    for executor in documents[0]["deploymentSpec"]["executors"].values():
        container: dict[str, Any] = executor["container"]
        assert container["image"] == image
        assert {"name": "MTMH_IMAGE", "value": image} in container["env"]


@pytest.mark.parametrize(("reference", "policy"), [(":7", "Always"), ("@sha256:" + "5" * 64, None)])
def test_a_node_asks_anew_what_a_tag_names_and_never_what_a_digest_does(
    tmp_path: Path, reference: str, policy: str | None
) -> None:
    """A node keeps what a tag named once: it would run yesterday's code for today's."""
    image, out = f"registry.example.com/team/mtmh-python{reference}", tmp_path / "pipeline.yaml"
    words = ["--set", "cluster.volume_claim=mtmh", "--set", "cluster.image_pull_secret=ours"]
    done = in_image(image, "compile", str(out), *words)
    assert done.returncode == 0, done.stderr
    spec, platform = yaml.safe_load_all(out.read_text())
    steps = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert set(steps) == set(spec["deploymentSpec"]["executors"])
    for name, step in steps.items():
        assert spec["deploymentSpec"]["executors"][name]["container"]["image"] == image
        assert step.get("imagePullPolicy") == policy
        assert [secret["secretName"] for secret in step["imagePullSecret"]] == ["ours"]


@pytest.mark.parametrize("image", ["mtmh-python:7", ""])
def test_an_image_that_no_node_can_pull_is_refused(kubeflow: Kubeflow, image: str) -> None:
    words = ["--tracking-uri", "http://mlflow", "--set", "cluster.volume_claim=mtmh"]
    done = in_image(image, "submit", kubeflow.url, *words)
    assert done.returncode == 2
    assert "names no registry" in done.stderr
    assert "cluster.local_images=true" in done.stderr
    assert not kubeflow.versions


def test_a_volume_is_needed_for_paths_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kubeflow: Kubeflow
) -> None:
    urls = {"cluster.scratch": "s3://mtmh/scratch", "cluster.store": "s3://mtmh/serving"}
    words = [word for name, url in urls.items() for word in ("--set", f"{name}={url}")]
    words += ["--set", "cluster.local_images=true"]
    assert submit(monkeypatch, kubeflow.url, *words, "--data", "s3://mtmh/data/mine") == 0
    assert [pipeline["display_name"] for pipeline in kubeflow.pipelines.values()] == ["mtmh-mine"]
    for path, wrong in (
        ("/data/mine", ["--data", "/data/mine"]),
        ("/mnt/mtmh/scratch", ["--set", "cluster.scratch=''"]),
        ("/mnt/mtmh/runs/serving/synthetic", ["--set", "cluster.store=''"]),
    ):
        assert submit(monkeypatch, kubeflow.url, *words, *wrong) == 2
        assert f"the steps need a volume for {path}: write" in capsys.readouterr().err


def schedule(monkeypatch: pytest.MonkeyPatch, host: str, *words: str) -> int:
    command = ["schedule", host, "--tracking-uri", "http://mlflow", *ON_VOLUME, *words]
    return mtmh(monkeypatch, *command)


def test_a_schedule_of_the_main_pipeline_replaces_the_one_before(
    monkeypatch: pytest.MonkeyPatch, kubeflow: Kubeflow, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("retrieval: {alpha: 30}\n")
    words = ["--config", str(file), "--set", "train.epochs=3"]
    assert schedule(monkeypatch, kubeflow.url, "--cron", "0 0 2 * * *", "--run-name", "other") == 0
    for cron in ("0 0 3 * * *", "0 0 4 * * *"):
        assert schedule(monkeypatch, kubeflow.url, "--cron", cron, *words) == 0
    other, recurring = kubeflow.recurring.values()
    assert (other["display_name"], recurring["display_name"]) == ("other", "mtmh-synthetic")
    assert recurring["trigger"]["cron_schedule"]["cron"] == "0 0 4 * * *"
    assert (recurring["mode"], recurring["max_concurrency"]) == ("ENABLE", "1")
    # The version that it repeats has the settings of file and words as its defaults.
    version = recurring["pipeline_version_reference"]["pipeline_version_id"]
    parameters = kubeflow.versions[version][0]["root"]["inputDefinitions"]["parameters"]
    config = Config.model_validate_json(parameters["config"]["defaultValue"])
    assert (config.retrieval.alpha, config.train.epochs) == (30, 3)
    defaults = {name: each.get("defaultValue") for name, each in parameters.items()}
    assert of_config(config).items() <= defaults.items()


def test_a_schedule_that_the_server_refuses_leaves_the_one_before(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kubeflow: Kubeflow
) -> None:
    assert schedule(monkeypatch, kubeflow.url, "--cron", "0 0 3 * * *") == 0
    before = dict(kubeflow.recurring)
    kubeflow.failing = 400
    assert schedule(monkeypatch, kubeflow.url, "--cron", "0 0 4 * * *") == 2
    assert kubeflow.recurring == before
    assert schedule(monkeypatch, kubeflow.url, "--cron", "0 3 * * *") == 2
    assert "six fields" in capsys.readouterr().err


def test_a_schedule_of_the_monitor_carries_the_whole_configuration_and_no_token(
    monkeypatch: pytest.MonkeyPatch, profiles: Kubeflow, token_file: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("retrieval: {alpha: 30}\ndata: {columns: {user_id: the user}}\n")
    inside = "http://ml-pipeline-ui.kubeflow"
    words = ["watch", "schedule", profiles.url, "--place", "/mnt/mtmh/place", "--name", "small"]
    words += ["--tracking-uri", "http://mlflow", "--config", str(file), "--inside", inside]
    words += [*ON_VOLUME, *PROFILE, "--set", "train.epochs=3", "--token-file", str(token_file)]
    for _ in range(2):
        assert mtmh(monkeypatch, *words) == 0
    (recurring,) = profiles.recurring.values()
    parameters = recurring["runtime_config"]["parameters"]
    assert SECRET not in json.dumps([recurring, *profiles.versions.values()])

    # The step submits by the address that it reaches, with file and words; so does who repeats the
    # note's command.
    submission = Submission(**json.loads(parameters["submission"]))
    config = Config.model_validate(submission.config)
    assert submission.host == inside
    assert (config.retrieval.alpha, config.train.epochs) == (30, 3)
    command = json.loads(parameters["command"])
    assert command[:2] == ["submit", inside]
    settings = command[command.index("--set") + 1 :: 2]
    assert load_config(*layers("small", "gpu", None), settings=settings) == config
    assert load_config(settings=settings) == config

    # Its pod has the label by which Kubeflow hands out tokens.
    version = recurring["pipeline_version_reference"]["pipeline_version_id"]
    platform = profiles.versions[version][1]["platforms"]["kubernetes"]["deploymentSpec"]
    labels = platform["executors"]["exec-retrain"]["podMetadata"]["labels"]
    assert labels == {"access-ml-pipeline": "true"}
    assert "podMetadata" not in platform["executors"]["exec-monitor"]
