"""Rolling a version out over an HTTP API that behaves as a cluster's (cluster_api.py), and back
where it fails.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.cluster_api import StandIn
from helpers.cluster_pods import Trouble
from helpers.small_cluster import cluster, kubeconfig, serve, write_package
from kfp import dsl

from components.deploy import deploy
from components.registry import champion_location
from components.tracking import connect
from mtmh.errors import UserError
from serving.cluster.lease import held
from serving.cluster.pods import RolloutError
from serving.cluster.rollout import roll_out
from serving.triton.store import promote, versions

ROOT = Path(__file__).parents[2]


def test_the_first_version_is_loaded_and_then_serves(api: StandIn) -> None:
    assert roll_out(api.store, "7", cluster(api)) == ["7"]
    assert (api.history, api.champion, api.serving, api.triton.available) == (
        ["7"],
        "7",
        {"7"},
        ["7", "7"],
    )


def test_the_next_comes_beside_the_old_and_the_one_before_goes(api: StandIn) -> None:
    serve(api, "7 8")
    assert roll_out(api.store, "10", cluster(api)) == ["8", "10"]
    assert (api.history, api.champion, api.serving) == (["8 10"], "10", {"10"})


def test_where_a_cluster_serves_nothing_is_promoted_but_by_a_rollout(api: StandIn) -> None:
    """Triton there loads what a rollout tells it alone: no router could serve the version."""
    roll_out(api.store, "7", cluster(api))
    with pytest.raises(UserError, match=r"namespace mtmh serves from .* --namespace mtmh"):
        promote(api.store, "8")
    assert api.champion == "7"
    roll_out(api.store, "8", cluster(api))
    assert api.champion == "8"


def test_a_version_that_an_experiment_names_stays(api: StandIn) -> None:
    serve(api, "7 8")
    arms = [{"name": "old", "weight": 1, "version": "7"}, {"name": "new", "weight": 1}]
    api.settings += json.dumps({"experiment": {"salt": "a", "arms": arms}})[1:-1] + "\n"
    assert roll_out(api.store, "9", cluster(api)) == ["7", "8", "9"]


def test_the_same_version_again_changes_nothing_that_serves(api: StandIn) -> None:
    serve(api, "7 8")
    roll_out(api.store, "8", cluster(api))
    assert (api.champion, api.serving, api.history) == ("8", {"8"}, [])


@pytest.mark.parametrize("given_up", [True, False])
def test_a_version_that_triton_does_not_load_is_taken_back(api: StandIn, given_up: bool) -> None:
    serve(api, "7")
    api.trouble = Trouble(broken="8", given_up=given_up)
    with pytest.raises(RolloutError, match="version 8 does not serve: Triton's pods") as told:
        roll_out(api.store, "8", cluster(api, seconds=4.0))
    assert "CrashLoopBackOff: engagement_8: vectors.npy does not have its checksum" in str(
        told.value
    )
    assert "Version 7 serves as before." in str(told.value)
    assert (api.history, api.champion, api.serving, api.triton.available) == (
        ["7 8", "7"],
        "7",
        {"7"},
        ["7", "7"],
    )


def test_a_first_version_that_does_not_load_leaves_nothing(api: StandIn) -> None:
    api.trouble = Trouble(broken="7")
    with pytest.raises(RolloutError, match="No version serves, as before"):
        roll_out(api.store, "7", cluster(api))
    assert (api.history, api.champion, api.triton.told) == (["7", None], "", None)


@pytest.mark.parametrize(
    ("trouble", "why"),
    [
        (Trouble(refused="8"), "router-2 refuses it: warm-up of engagement: failed"),
        (Trouble(stale="8"), "the routers, after 4 s: router-3 serves 7"),
    ],
)
def test_a_version_that_the_routers_do_not_take_is_taken_back(
    api: StandIn, trouble: Trouble, why: str
) -> None:
    serve(api, "7")
    api.trouble = trouble
    with pytest.raises(RolloutError, match=why):
        roll_out(api.store, "8", cluster(api, seconds=4.0))
    assert (api.history, api.champion, api.serving) == (["7 8", "7"], "7", {"7"})


def test_a_status_written_meanwhile_and_an_api_that_is_busy_are_asked_again(api: StandIn) -> None:
    serve(api, "7")
    api.trouble = Trouble(conflicts=3, unavailable=2)
    roll_out(api.store, "8", cluster(api))
    assert (api.history, api.champion) == (["7 8"], "8")


def test_what_somebody_else_told_triton_meanwhile_stays(api: StandIn) -> None:
    serve(api, "7")

    def overtake(verb: str, resource: str) -> None:
        if api.triton.told == "7 8":
            api.tell("7 9")

    api.on_request = overtake
    with pytest.raises(RolloutError, match=r"somebody else told Triton to load \['7', '9'\]"):
        roll_out(api.store, "8", cluster(api))
    assert (api.triton.told, api.champion) == ("7 9", "7")


@pytest.mark.parametrize(
    ("verb", "resource"), [("patch", "deployments"), ("list", "pods"), ("get", "configmaps")]
)
def test_a_missing_right_is_told_and_nothing_serves_but_what_did(
    api: StandIn, verb: str, resource: str
) -> None:
    serve(api, "7")
    for rule in api.rules:
        if resource in rule["resources"]:
            rule["verbs"].remove(verb)
    with pytest.raises(UserError, match=f"the cluster refuses: {resource} .* cannot {verb} it"):
        roll_out(api.store, "8", cluster(api))
    assert (api.champion, api.serving) == ("7", {"7"})


def test_the_deploy_account_has_the_rights_that_are_used_and_no_other(api: StandIn) -> None:
    serve(api, "7")
    with held(cluster(api), "pod-1"):
        roll_out(api.store, "8", cluster(api))
    granted = {
        (verb, resource)
        for rule in api.rules
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert api.used == granted


@pytest.mark.parametrize(
    "moment", [("patch", "deployments", 1), ("get", "deployments", 4), ("list", "pods", 1)]
)
def test_killed_at_any_time_what_serves_is_loaded_and_a_second_try_ends_it(
    api: StandIn, tmp_path: Path, moment: tuple[str, str, int]
) -> None:
    serve(api, "7")
    verb, resource, left = moment
    child: list[int] = []

    def kill(*request: str) -> None:
        nonlocal left
        if request == (verb, resource):
            left -= 1
            if left == 0:
                os.kill(child[0], signal.SIGKILL)

    script = (
        "import sys; from pathlib import Path; from kubernetes import client\n"
        "from serving.cluster.pods import Cluster; from serving.cluster.rollout import roll_out\n"
        "api = client.ApiClient(client.Configuration(host=sys.argv[2])); sys.stdin.read()\n"
        "roll_out(Path(sys.argv[1]), '8', Cluster(api, 'mtmh', 20.0, pause=0.01))\n"
    )
    command = [sys.executable, "-c", script, str(api.store), api.url]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT)
    child.append(process.pid)
    api.on_request = kill
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    api.on_request = lambda verb, resource: None
    api.settle()
    roll_out(api.store, "8", cluster(api))
    assert (api.champion, api.serving, api.triton.told) == ("8", {"8"}, "7 8")


# MLflow 3.17 asks SQLAlchemy 2.1 for what SQLAlchemy calls deprecated.
@pytest.mark.filterwarnings("ignore::sqlalchemy.exc.SADeprecationWarning")
def test_the_deploy_step_rolls_a_cluster(
    api: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By kubeconfig, as from a machine outside; in a pod the account's token does the same."""
    serve(api, "7 8")
    config = kubeconfig(tmp_path / "kubeconfig", api.url)
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(config))
    run = tmp_path / "run"
    (run / "retriever").mkdir(parents=True)
    (run / "retriever" / "manifest.json").write_text(json.dumps({"sha256": {}}))
    (run / "metrics.json").write_text(json.dumps({"gate": {"passed": True}}))
    write_package(tmp_path / "11", "11")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow = connect(uri)
    mlflow.create_registered_model("mtmh-synthetic")
    for _ in range(11):
        mlflow.create_model_version("mtmh-synthetic", str(run / "retriever"))
    deploy.python_func(
        run=dsl.Artifact(name="run", uri=str(run)),
        package=dsl.Artifact(name="package", uri=str(tmp_path / "11")),
        approved=True,
        version="11",
        champion_link=str(tmp_path / "champions" / "synthetic"),
        store=str(api.store),
        model_name="mtmh-synthetic",
        tracking_uri=uri,
        namespace="mtmh",
    )
    assert champion_location(uri, "mtmh-synthetic") == str(run / "retriever")
    assert (api.history, api.champion, api.serving) == (["8 11"], "11", {"11"})
    assert (tmp_path / "champions" / "synthetic").resolve() == run / "retriever"
    assert versions(api.store) == [
        "8",
        "9",
        "10",
        "11",
    ]  # what Triton has loaded, and the newest two others
