"""Two deploys at once: the second waits for the first, for as long as the first lives."""

import threading
import time

import pytest
from helpers.cluster_api import StandIn
from helpers.small_cluster import cluster, serve

from mtmh.errors import UserError
from serving.cluster.lease import held
from serving.cluster.rollout import roll_out


def test_two_deploys_never_interleave(api: StandIn, capsys: pytest.CaptureFixture[str]) -> None:
    serve(api, "7")
    first_is_in, may_end = threading.Event(), threading.Event()

    def first() -> None:
        with held(cluster(api), "pod-1 (version 8)"):
            first_is_in.set()
            may_end.wait(20)
            roll_out(api.store, "8", cluster(api))

    def second() -> None:
        with held(cluster(api), "pod-2 (version 9)"):
            roll_out(api.store, "9", cluster(api))

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    assert first_is_in.wait(20)
    threads[1].start()
    # The second has asked for the Lease, and was told to wait.
    while "waits until pod-1 (version 8)" not in capsys.readouterr().out:
        time.sleep(0.01)
    assert api.history == []
    may_end.set()
    for thread in threads:
        thread.join(30)
    assert (api.history, api.champion) == (["7 8", "8 9"], "9")
    assert api.lease["spec"]["holderIdentity"] is None


def test_the_lease_of_a_deploy_that_was_killed_lapses(api: StandIn) -> None:
    spec = {"holderIdentity": "pod-1 (version 8)", "leaseDurationSeconds": 1}
    api.lease = {"metadata": {"name": "mtmh-deploy", "resourceVersion": "1"}, "spec": spec}
    with held(cluster(api), "pod-2 (version 9)"):
        assert api.lease["spec"]["holderIdentity"] == "pod-2 (version 9)"


def test_a_holder_that_lives_keeps_it_beyond_the_time_that_it_lasts(api: StandIn) -> None:
    with held(cluster(api), "pod-1", seconds=1):
        first = api.lease["metadata"]["resourceVersion"]
        while int(api.lease["metadata"]["resourceVersion"]) < int(first) + 4:
            time.sleep(0.05)
        assert api.lease["spec"]["holderIdentity"] == "pod-1"


def test_a_lease_that_is_held_too_long_names_its_holder(api: StandIn) -> None:
    with (
        held(cluster(api), "pod-1 (version 8)"),
        pytest.raises(
            UserError, match=r"pod-1 \(version 8\) rolls a version out .* Run this again"
        ),
        held(cluster(api, seconds=0.1), "pod-2 (version 9)"),
    ):
        raise AssertionError("both have it")


def test_an_account_without_the_right_is_told(api: StandIn) -> None:
    api.rules = [rule for rule in api.rules if "leases" not in rule["resources"]]
    with pytest.raises(UserError, match=r"leases .* cannot get it"), held(cluster(api), "pod-1"):
        raise AssertionError("it was taken")
