"""The pods of the stand-in of a cluster (cluster_api.py): Triton's Deployment, whose old pods go on
serving while they terminate, and routers that look at the champion now and then.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from serving.triton.served import Served

VERSIONS = "mtmh/versions"
REPLICAS = 2
LINGERING = 8  # requests to the cluster that a terminating pod of Triton outlives
LOOKS = 3  # a router looks at the champion every third time that it is asked for its health


@dataclass
class Trouble:
    """What a test wants to go wrong."""

    broken: str = ""  # a version with which Triton's pods do not come up
    last_words: str = "engagement_8: vectors.npy does not have its checksum\n"  # of such a pod
    given_up: bool = True  # whether the cluster says so in the end
    conflicts: int = 0  # writes of the status that come between a read and a patch
    unavailable: int = 0  # requests that are answered with 503
    refused: str = ""  # a version that the routers refuse
    stale: str = ""  # a version that the last of the routers does not take up, without a word
    waits: int = 0  # looks at which the last of the routers finds the champion not yet loaded


@dataclass
class TritonPods:
    """The Deployment, and what each of its pods has loaded. Its rollout goes on by a step at each
    look: seen, one pod more, the old ones replaced, the rest.
    """

    deployment: Any
    available: list[str] = field(default_factory=lambda: [""] * REPLICAS)
    # Terminating: what each has loaded, and the requests that it still outlives.
    ending: list[tuple[str, int]] = field(default_factory=list)
    looks: int = 0  # since the last change

    def __post_init__(self) -> None:
        self.deployment["metadata"] |= {
            "namespace": "mtmh",
            "generation": 1,
            "resourceVersion": "1",
        }
        self._counts(REPLICAS, REPLICAS, REPLICAS)

    @property
    def told(self) -> str | None:
        """The annotation of its pods."""
        template = self.deployment["spec"]["template"]["metadata"]
        text: str | None = template.get("annotations", {}).get(VERSIONS)
        return text

    def tell(self, text: str | None) -> None:
        """Change the annotation."""
        annotations = {} if text is None else {VERSIONS: text}
        self.deployment["spec"]["template"]["metadata"]["annotations"] = annotations
        self.deployment["metadata"]["generation"] += 1
        self.written()
        self.looks = 0

    def written(self) -> None:
        """Somebody, the cluster itself perhaps, writes the object."""
        metadata = self.deployment["metadata"]
        metadata["resourceVersion"] = str(int(metadata["resourceVersion"]) + 1)

    def all_have(self, version: str) -> bool:
        """Whether the routers' calls reach the version, whichever pod they go to."""
        loaded = [*self.available, *(text for text, _ in self.ending)]
        return all(version in text.split() for text in loaded)

    def request_passes(self) -> None:
        """Terminating pods come nearer to their end."""
        self.ending = [(text, left - 1) for text, left in self.ending if left > 1]

    def look(self, trouble: Trouble) -> None:
        """One step of the rollout."""
        self.looks += 1
        status = self.deployment["status"]
        if self.looks == 2:
            status["observedGeneration"] = self.deployment["metadata"]["generation"]
            status["conditions"] = []
            self._counts(0, REPLICAS, REPLICAS)
        elif self.looks == 3:
            self._counts(1, REPLICAS + 1, REPLICAS)
        elif self.looks >= 4 and self.is_stuck(trouble):
            if self.looks >= 6 and trouble.given_up:
                words = {
                    "reason": "ProgressDeadlineExceeded",
                    "message": 'ReplicaSet "triton-2" has timed out',
                }
                status["conditions"] = [{"type": "Progressing", "status": "False", **words}]
        elif self.looks == 4:
            self._replace(0)
            self._counts(REPLICAS, REPLICAS + 1, REPLICAS)
        elif self.looks == 5:  # the Deployment counts no pod that is terminating
            self._replace(1)
            self._counts(REPLICAS, REPLICAS, REPLICAS)
        self.written()

    def is_stuck(self, trouble: Trouble) -> bool:
        """Whether new pods do not come up."""
        return bool(trouble.broken) and trouble.broken in (self.told or "").split()

    def listed(self, trouble: Trouble) -> list[Any]:
        """The pods as objects; one that was evicted is never removed."""
        pods = [self._pod(f"triton-{n}", text) for n, text in enumerate(self.available)]
        for n, (text, _) in enumerate(self.ending):
            pods.append(self._pod(f"triton-old-{n}", text))
            pods[-1]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        pods.append(self._pod("triton-evicted", ""))
        pods[-1]["status"]["phase"] = "Failed"
        if self.is_stuck(trouble):
            pods.append(self._pod("triton-new", self.told or ""))
            container = {"name": "triton", "image": "", "imageID": "", "ready": False}
            states = {
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 1, "message": trouble.last_words}},
            }
            pods[-1]["status"]["containerStatuses"] = [container | states | {"restartCount": 3}]
        return pods

    def _pod(self, name: str, text: str) -> Any:
        template = self.deployment["spec"]["template"]
        annotations = {VERSIONS: text} if text else {}
        metadata = {"name": name, **template["metadata"], "annotations": annotations}
        return {"metadata": metadata, "spec": template["spec"], "status": {"phase": "Running"}}

    def _replace(self, position: int) -> None:
        old, new = self.available[position], self.told or ""
        if old != new:
            self.ending.append((old, LINGERING))
        self.available[position] = new

    def _counts(self, new: int, all_: int, available: int) -> None:
        counts = {"updatedReplicas": new, "replicas": all_, "availableReplicas": available}
        self.deployment["status"] = {
            "observedGeneration": 1,
            "conditions": [],
            **self.deployment.get("status", {}),
            **counts,
        }


@dataclass
class RouterPod:
    """A router, which serves what the store's champion says."""

    address: str
    serving: str = ""
    canary: tuple[str, float] = ("", 0.0)  # and its share
    asked: int = 0
    champion_named_us: int = 0  # when it looked last
    refused: dict[str, str] = field(default_factory=dict)
    waiting: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the pod."""
        return f"router-{self.address[-1]}"

    def ready(self, store: Path, triton: TritonPods, trouble: Trouble, is_last: bool) -> Any:
        """Its answer to /readyz. It tells of its last look, which may be of an earlier champion."""
        self.asked += 1
        if self.asked % LOOKS == 0 and (store / "champion").is_file():
            self._look(store / "champion", triton, trouble, is_last)
        told = {
            "status": "ready",
            "model_version": self.serving or None,
            "canary": self.canary[0] or None,
            "canary_share": self.canary[1],
            "refused": self.refused,
            "waiting": self.waiting,
            "champion_named_us": self.champion_named_us,
        }
        return (200 if self.serving else 503), told

    def _look(self, file: Path, triton: TritonPods, trouble: Trouble, is_last: bool) -> None:
        named, named_us = Served.read(file.read_text(), file), file.stat().st_mtime_ns // 1000
        # A canary is what is new, where there is one.
        champion = named.canary or named.champion
        if named_us != self.champion_named_us:
            self.refused, self.waiting, self.champion_named_us = {}, {}, named_us
        if champion == trouble.refused:
            self.refused = {champion: "warm-up of engagement: failed"}
        elif is_last and trouble.waits:
            trouble.waits -= 1
            self.waiting = {champion: f"for somebody to load engagement_{champion}"}
        elif not triton.all_have(champion):
            self.refused = {champion: f"warm-up of engagement_{champion}: gone"}
        elif not (is_last and champion == trouble.stale):
            self.serving, self.canary = named.champion, (named.canary, named.share)
            self.refused, self.waiting = {}, {}
