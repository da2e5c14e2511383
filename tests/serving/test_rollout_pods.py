"""What pods that terminate, wait, refused before or fail to start mean for a rollout."""

import pytest
from helpers.cluster_api import StandIn, running
from helpers.cluster_pods import Trouble
from helpers.small_cluster import cluster, serve

from serving.cluster.pods import RolloutError, last_words
from serving.cluster.rollout import roll_out


def test_the_champion_changes_when_the_pods_without_the_version_have_ended(api: StandIn) -> None:
    """The Deployment does not count them, and routers that ask one would refuse the version."""
    serve(api, "7")
    assert roll_out(api.store, "8", cluster(api)) == ["7", "8"]
    assert (api.triton.ending, api.champion, api.serving) == ([], "8", {"8"})


def test_a_pod_that_never_ends_is_named_and_the_version_taken_back(api: StandIn) -> None:
    serve(api, "7")
    api.triton.ending = [("7", 10**9)]
    with pytest.raises(RolloutError, match="after 4 s: triton-old-0 must end first") as error:
        roll_out(api.store, "8", cluster(api, seconds=4.0))
    assert "Version 7 serves as before." in str(error.value)
    assert (api.history, api.champion, api.serving) == (["7 8", "7"], "7", {"7"})


def test_an_autoscaler_may_scale_triton_while_a_version_is_rolled_out(api: StandIn) -> None:
    """It writes the Deployment again and again; the rollout reads it anew and changes the
    annotation alone (cluster_api.py looks at every patch).
    """
    serve(api, "7")
    scaled: list[int] = []

    def scale(verb: str, resource: str) -> None:
        if (verb, resource) == ("get", "deployments") and len(scaled) < 4:
            scaled.append(2)
            api.triton.deployment["spec"]["replicas"] = 2
            api.triton.written()

    api.on_request = scale
    roll_out(api.store, "8", cluster(api))
    assert (api.champion, api.serving, len(scaled)) == ("8", {"8"}, 4)


def test_a_version_that_was_refused_can_be_rolled_out_again(api: StandIn) -> None:
    """The routers still tell of the first refusal when the second rollout begins."""
    serve(api, "7")
    api.trouble = Trouble(refused="8")
    with pytest.raises(RolloutError, match="refuses it: warm-up of engagement: failed"):
        roll_out(api.store, "8", cluster(api))
    assert any("8" in router.refused for router in api.routers)
    api.trouble = Trouble()
    roll_out(api.store, "8", cluster(api))
    assert (api.champion, api.serving) == ("8", {"8"})


def test_a_router_that_waits_for_triton_is_waited_for(api: StandIn) -> None:
    """Also one that is not ready yet: it has been started just now."""
    serve(api, "7")
    api.routers[-1].serving = ""
    api.trouble = Trouble(waits=3)
    roll_out(api.store, "8", cluster(api))
    assert (api.champion, api.serving) == ("8", {"8"})


def test_a_router_that_waits_too_long_is_named_with_what_it_waits_for(api: StandIn) -> None:
    serve(api, "7")
    api.trouble = Trouble(waits=10**9)
    with pytest.raises(RolloutError, match="router-3 waits for somebody to load engagement_8"):
        roll_out(api.store, "8", cluster(api, seconds=4.0))
    assert (api.champion, api.history[-1]) == ("7", "7")


CAUSE = "E1203 model_lifecycle.cc:642] failed to load 'engagement_8': config.pbtxt: no such type"
AFTERWARDS = "ensemble retrieve_engagement_8 contains models that are not available: engagement_8\n"


def test_the_message_begins_with_the_cause_however_much_comes_after_it(api: StandIn) -> None:
    serve(api, "7")
    last = "I1203 server.cc:349] Timeout 30: Found 0 live models\n"
    api.trouble = Trouble(broken="8", last_words=f"started\n{CAUSE}\n{20 * AFTERWARDS}{last}")
    with pytest.raises(RolloutError) as error:
        roll_out(api.store, "8", cluster(api))
    assert f"CrashLoopBackOff: {CAUSE} " in str(error.value)
    assert last.strip() in str(error.value)
    assert "started" not in str(error.value)


@pytest.mark.parametrize("message", ["", "gone\n", f"{100 * CAUSE}\n{AFTERWARDS}", 9 * AFTERWARDS])
def test_last_words_are_bounded(message: str) -> None:
    words = last_words(message)
    assert len(words) == min(len(" ".join(message.split())), 1000)
    assert "\n" not in words


def test_routers_with_ipv6_addresses_are_asked(api: StandIn) -> None:
    with running(StandIn(api.store, addresses=("::1",))) as other:
        serve(other, "7")
        roll_out(other.store, "8", cluster(other, seconds=5.0))
        assert (other.serving, other.unserved) == ({"8"}, set())
