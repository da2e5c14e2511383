"""Requests of a client's pod, all the while something happens to a cluster, and what came back."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from helpers.cluster.site import IMAGES, TOKEN, Site

# Asks the routers five times a second, a connection each, until it is ended. Counts answers by
# version and the candidates of each, what was degraded, and failures by their text.
CLIENT = """
import collections, json, signal, socket, sys, time, urllib.error, urllib.request
going, versions, failures, lists = [True], collections.Counter(), collections.Counter(), {}
degraded, last, longest = 0, time.monotonic(), 0.0
signal.signal(signal.SIGTERM, lambda *_: going.clear())
head = {"Authorization": "Bearer " + sys.argv[1], "Content-Type": "application/json"}
# Once: a Service's address stays, while a small cluster's names may go with its API server.
url = "http://" + socket.gethostbyname("router") + ":8080/v1/retrieve"
def ask():
    request = urllib.request.Request(url, sys.argv[2].encode(), head)
    return json.load(urllib.request.urlopen(request, timeout=10))
while going:
    try:
        answer = ask()
        version = answer["model_version"]
        # Scores may differ in their last digit, by the requests that Triton puts into a batch.
        items = " ".join(candidate["item_id"] for candidate in answer["candidates"])
        versions[version] += 1
        degraded += bool(answer.get("degraded"))
        if not answer.get("degraded"):
            lists.setdefault(version, set()).add(items)
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    except urllib.error.HTTPError as error:
        failures[str(error.code) + " " + error.read().decode()[:200]] += 1
    except Exception as error:
        failures[type(error).__name__ + " " + str(error)] += 1
    time.sleep(0.2)
lists = {version: sorted(different) for version, different in lists.items()}
print(json.dumps({"versions": versions, "lists": lists, "degraded": degraded,
                  "failures": failures, "longest_wait": round(longest, 1)}))
"""


@dataclass
class Answers:
    """What a client got; filled when the load has ended."""

    versions: dict[str, int] = field(default_factory=dict)  # answers of each
    lists: dict[str, list[str]] = field(default_factory=dict)  # of each: the items, in their order
    failures: dict[str, int] = field(default_factory=dict)  # by status and text
    degraded: int = 0
    longest_wait: float = 0.0  # seconds between two good answers

    def mixed(self) -> dict[str, list[str]]:
        """The versions that gave more than one list for the one request, and these lists."""
        return {version: lists for version, lists in self.lists.items() if len(lists) > 1}


@contextmanager
def load(site: Site, name: str = "load") -> Iterator[Answers]:
    """A request five times a second while this is open."""
    answers = Answers()
    body = json.dumps({"triggers": [an_item(site)], "k": 10})
    command = ["python3", "-c", CLIENT, TOKEN, body]
    site.start_pod(name, IMAGES["mtmh-python"], command, labels={"mtmh/client": "true"})
    yield answers
    site.kubectl("exec", name, "--", "python3", "-c", "import os; os.kill(1, 15)")
    for key, value in json.loads(site.log_of(name)).items():
        setattr(answers, key, value)


def an_item(site: Site) -> str:
    """An item that the routers know."""
    answer = site.ask("/v1/items?limit=1")
    return str(answer["items"][0]["item_id"])
