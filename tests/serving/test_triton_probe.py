"""The probe of Triton's pods (k8s/base/answers.py) over a real Triton: what it asks is answered as
requests are, and what does not answer is named.
"""

import os
import subprocess
import sys
from pathlib import Path

from helpers.asking import Serving

from serving.triton.management import headers

PROBE = Path(__file__).parents[2] / "k8s" / "base" / "answers.py"


def probe(serving: Serving, needed: str, versions: str) -> tuple[int, str]:
    """Its exit status, and what it says."""
    environment = {
        **os.environ,
        "MTMH_PROBE": f"http://127.0.0.1:{serving.triton.ports.http}",
        "MTMH_MODELS": str(serving.store / "models"),
        "MTMH_VERSIONS": versions,
    }
    command = [sys.executable, "-I", str(PROBE), needed]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert not done.stderr
    return done.returncode, done.stdout.strip()


def test_a_pod_answers_when_its_channels_do_and_one_that_does_not_is_named(
    serving: Serving,
) -> None:
    assert probe(serving, "every", "1") == (0, "")
    assert probe(serving, "every", "") == (0, "")  # before the first version there is none
    secret = headers(serving.triton.secret)
    serving.client.unload_model("retrieve_relevance_1", headers=secret)
    status, words = probe(serving, "every", "1")
    assert status == 1
    assert words.startswith("retrieve_relevance_1: 4")
    assert probe(serving, "some", "1")[0] == 0
    serving.client.load_model("retrieve_relevance_1", headers=secret)
    assert probe(serving, "every", "1") == (0, "")


def test_a_pod_without_a_channel_that_answers_is_not_ready(serving: Serving) -> None:
    """Version 3 is installed, and this Triton was not told to load it."""
    assert probe(serving, "some", "3") == (1, probe(serving, "every", "3")[1])
    assert probe(serving, "some", "1 3")[0] == 0
