"""Whether Triton in this pod really answers: each channel (a head with the preranker behind it) of
each version in MTMH_VERSIONS is asked for one item's candidates.

Usage: answers.py every|some. Before a pod takes requests, every channel must have answered; from
then on some: what fails in all pods at once must not take all of them out of service, as an answer
of the other head is an answer. Exits with 1, naming each channel that failed. From Python 3.10 on.
"""

import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

SERVER = os.environ.get("MTMH_PROBE", "http://127.0.0.1:8000")
MODELS = Path(os.environ.get("MTMH_MODELS", "/srv/mtmh/store/models"))
SECONDS = 5.0  # for one channel


def channels() -> list[Path]:
    """The folders of the ensembles."""
    versions = os.environ.get("MTMH_VERSIONS", "").split()
    return [path for version in versions for path in sorted(MODELS.glob(f"retrieve_*_{version}"))]


def failure(channel: Path) -> str:
    """Why the channel does not answer; empty where it does."""
    version = channel.name.rpartition("_")[2]
    item = json.loads((channel / version / "example.json").read_text(encoding="utf-8"))
    nothing = {"shape": [1, 0], "data": []}
    inputs = [
        {"name": "trigger", "datatype": "BYTES", "shape": [1, 1], "data": [item]},
        {"name": "exclude", "datatype": "BYTES", **nothing},
        {"name": "k_ann", "datatype": "INT32", "shape": [1, 1], "data": [1]},
        {"name": "id_features", "datatype": "BYTES", **nothing},
        {"name": "float_features", "datatype": "FP32", **nothing},
        {"name": "content", "datatype": "FP32", **nothing},
    ]
    body = json.dumps({"inputs": inputs, "outputs": [{"name": "score"}]}).encode()
    try:
        request = urllib.request.Request(f"{SERVER}/v2/models/{channel.name}/infer", data=body)
        with urllib.request.urlopen(request, timeout=SECONDS) as answer:
            answer.read()
        return ""
    except urllib.error.HTTPError as error:
        return f"{channel.name}: {error.code} {error.read(500).decode(errors='replace')}"
    except OSError as error:
        return f"{channel.name}: {error}"


def main(needed: str) -> int:
    """The exit status."""
    with urllib.request.urlopen(f"{SERVER}/v2/health/ready", timeout=SECONDS):
        pass
    needed_channels = channels()
    failures = [why for channel in needed_channels if (why := failure(channel))]
    print("\n".join(failures))
    return 1 if failures and (needed == "every" or len(failures) == len(needed_channels)) else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
