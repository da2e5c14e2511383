"""`mtmh rollback` on a cluster, in the words of the CronJob of k8s/base that an operator starts."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from helpers.cluster_api import BASE, StandIn
from helpers.cluster_pods import Trouble
from helpers.command_line import mtmh
from helpers.small_cluster import kubeconfig, serve

from components import registry
from components.tracking import connect
from serving.triton.served import Served
from serving.triton.store import served

# MLflow 3.17 asks SQLAlchemy 2.1 for what SQLAlchemy calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
MODEL = "mtmh-synthetic"
(CRON_JOB,) = yaml.safe_load_all((BASE / "rollback.yaml").read_text())
POD = CRON_JOB["spec"]["jobTemplate"]["spec"]["template"]


class Operator:
    """Somebody who starts the CronJob's Job; `uri` is MLflow's, where versions 7 to 10 passed."""

    def __init__(self, api: StandIn, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.runs, self.monkeypatch = folder / "runs", monkeypatch
        (self.runs / "serving").mkdir(parents=True)
        (self.runs / "serving" / "synthetic").symlink_to(api.store)
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.client = connect(self.uri)
        self.client.create_registered_model(MODEL)
        run = self.client.create_run(self.client.create_experiment("mtmh")).info.run_id
        self.client.set_tag(run, "run_directory", "/not/on/this/machine")
        for _ in range(10):
            version = self.client.create_model_version(MODEL, "/retriever", run).version
            self.client.set_model_version_tag(MODEL, str(version), "gate", "passed")
        location = kubeconfig(folder / "kubeconfig", api.url)
        monkeypatch.setattr(
            "kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(location)
        )

    def does(self, words: str = "") -> int:
        """The exit status of the pod's command, with MTMH_DO as it is or as given."""
        (container,) = POD["spec"]["containers"]
        values = {"data": "synthetic", "tracking_uri": self.uri, "metadata.namespace": "mtmh"}
        for variable in container["env"]:
            source: Any = variable.get("valueFrom", {})
            key = source.get("configMapKeyRef", {}).get("key")
            key = key or source.get("fieldRef", {}).get("fieldPath")
            self.monkeypatch.setenv(variable["name"], values[key] if key else variable["value"])
        shell, option, line = container["command"]
        assert (shell, option) == ("sh", "-c")
        line = line.replace("$MTMH_DO", words or container["env"][0]["value"])
        line = line.replace("/mnt/mtmh/runs", str(self.runs))
        command, program, *rest = line.split()
        assert (command, program) == ("exec", "mtmh")
        return mtmh(self.monkeypatch, *rest)

    @property
    def alias(self) -> str:
        """The version that runs are compared with."""
        registered = registry.champion_of(self.client, MODEL)
        return str(registered.version) if registered else ""


@pytest.fixture
def operator(api: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Operator:
    return Operator(api, tmp_path, monkeypatch)


def test_the_version_before_serves_again_and_the_alias_goes_with_it(
    api: StandIn, operator: Operator
) -> None:
    serve(api, "8 9")
    assert operator.does() == 0
    assert (api.champion, api.serving, operator.alias) == ("8", {"8"}, "8")
    assert api.history == []  # Triton had it loaded still


def test_a_version_that_triton_no_longer_has_is_rolled_in_first(
    api: StandIn, operator: Operator
) -> None:
    serve(api, "8 9")
    assert operator.does("rollback --version 7") == 0
    assert (api.history, api.champion, api.serving) == (["7 9"], "7", {"7"})
    assert operator.alias == "7"


def test_one_that_the_routers_refuse_leaves_all_as_it_was_and_says_why(
    api: StandIn, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(api, "8 9")
    registry.make_champion(operator.uri, MODEL, "9")
    api.trouble = Trouble(refused="8")
    assert operator.does() == 2
    assert "version 8 does not serve: router-2 refuses it" in capsys.readouterr().err
    assert (api.champion, api.serving, operator.alias) == ("9", {"9"}, "9")


def test_a_version_that_is_not_there_or_did_not_pass_is_named(
    api: StandIn, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(api, "8 9")
    operator.client.set_model_version_tag(MODEL, "8", "gate", "rejected")
    for words, message in (
        ("rollback --version 3", "no version 3: there is 7, 8, 9, 10"),
        ("rollback", "no version 8 that passed the gate"),
        ("rollback --tracking-uri=", "--namespace needs --tracking-uri"),
    ):
        assert operator.does(words) == 2
        assert message in capsys.readouterr().err
    assert (api.champion, api.history) == ("9", [])


def test_the_pod_may_ask_the_routers_and_runs_only_when_it_is_told_to() -> None:
    policies = list(yaml.safe_load_all((BASE / "network.yaml").read_text()))
    (router,) = [policy for policy in policies if policy["metadata"]["name"] == "router"]
    peers = [peer for rule in router["spec"]["ingress"] for peer in rule["from"]]
    labels = POD["metadata"]["labels"].items()
    assert any(
        "namespaceSelector" not in peer and peer["podSelector"]["matchLabels"].items() <= labels
        for peer in peers
    )
    # `deny` takes what is labelled part-of: this pod also asks the API server and MLflow.
    assert "app.kubernetes.io/part-of" not in POD["metadata"]["labels"]
    assert CRON_JOB["spec"]["suspend"] is True
    assert json.dumps(POD).count("mtmh-deploy") == 1


def test_a_canary_serves_a_share_until_it_is_promoted(api: StandIn, operator: Operator) -> None:
    """Triton has both, the routers say so, and MLflow's champion stays until the end."""
    serve(api, "7 8")
    registry.make_champion(operator.uri, MODEL, "8")
    assert operator.does("canary 9 --share 0.05") == 0
    assert served(api.store) == Served("8", "9", 0.05)
    assert {router.canary for router in api.routers} == {("9", 0.05)}
    assert (api.history, api.serving, operator.alias) == (["8 9"], {"8"}, "8")
    assert operator.does("canary 9 --share 0.5") == 0  # another share needs no roll
    assert operator.does("promote") == 0
    assert served(api.store) == Served("9")
    assert (api.history, api.serving, operator.alias) == (["8 9"], {"9"}, "9")
    assert {router.canary for router in api.routers} == {("", 0.0)}


def test_a_canary_is_ended_by_a_rollback_and_the_champion_stays(
    api: StandIn, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(api, "7 8")
    assert operator.does("canary 9") == 0
    assert operator.does() == 0
    assert "canary 9 ended; version 8 serves" in capsys.readouterr().out
    assert (served(api.store), api.serving) == (Served("8"), {"8"})
    assert operator.does("promote") == 2
    assert "has no canary to promote" in capsys.readouterr().err


def test_a_canary_that_the_routers_refuse_leaves_all_as_it_was(
    api: StandIn, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(api, "7 8")
    api.trouble = Trouble(refused="9")
    assert operator.does("canary 9") == 2
    assert "version 9 does not serve: router-2 refuses it" in capsys.readouterr().err
    assert (served(api.store), api.history) == (Served("8"), ["8 9", "7 8"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("canary 8", "version 8 is the champion"),
        ("canary 9 --share 1", "share is from 0.0001 to 0.9999"),
        ("canary 9 --share 0.00001", "share is from 0.0001 to 0.9999"),
        ("canary 3", "no version 3: there is"),
    ],
)
def test_a_canary_that_makes_no_sense_is_refused_before_anything_moves(
    api: StandIn, operator: Operator, capsys: pytest.CaptureFixture[str], words: str, message: str
) -> None:
    serve(api, "7 8")
    assert operator.does(words) == 2
    assert message in capsys.readouterr().err
    assert (served(api.store), api.history) == (Served("8"), [])


def test_users_of_an_experiment_get_no_canary(
    api: StandIn, operator: Operator, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(api, "7 8")
    arms = [{"name": "old", "weight": 1}, {"name": "new", "weight": 1, "alpha": 30}]
    api.settings += json.dumps({"experiment": {"salt": "a", "arms": arms}})[1:-1] + "\n"
    assert operator.does("canary 9") == 2
    assert "an experiment is running" in capsys.readouterr().err
    assert (served(api.store), api.history) == (Served("8"), [])
