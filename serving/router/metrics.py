"""What Prometheus reads of the router, in a registry of its own."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.core import GaugeMetricFamily

from mtmh.heads import HEADS

# Feast, when it is imported, tells prometheus_client to keep figures in files for many processes. A router is one.
values.ValueClass = values.MutexValue

SECONDS = (0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0)


STAGES = ("history", "engagement", "relevance", "merge", "log", "total")


class Metrics:
    """Every figure, by name; one instance a router."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "mtmh_requests", "Requests answered, by path and status.", ["path", "status"], registry=registry
        )
        self.stage_seconds = Histogram(
            "mtmh_stage_seconds",
            f"Latency of each stage: {', '.join(STAGES)}.",
            ["stage"],
            buckets=SECONDS,
            registry=registry,
        )
        self.stage = {stage: self.stage_seconds.labels(stage) for stage in STAGES}  # looked up once: this is hot
        self.merged = Counter("mtmh_merged_candidates", "Candidates answered, by head.", ["head"], registry=registry)
        self.merged_of = {head: self.merged.labels(head) for head in HEADS}
        self.duplicates = Counter(
            "mtmh_duplicates_removed", "Offers dropped because the other head's came first.", registry=registry
        )
        self.degraded = Counter(
            "mtmh_degraded_answers",
            "Answers without one of: engagement, relevance, history.",
            ["part"],
            registry=registry,
        )
        self.unanswered = Counter("mtmh_unanswered", "503 answers, by what was gone.", ["part"], registry=registry)
        self.calls_failed = Counter(
            "mtmh_head_calls_failed", "Calls of a head without an answer.", ["head", "reason"], registry=registry
        )
        self.triggers = Counter("mtmh_triggers", "Triggers the heads were asked with.", registry=registry)
        self.cold = Counter("mtmh_cold_triggers", "Triggers of which a version knows nothing.", registry=registry)
        self.empty = Counter("mtmh_empty_answers", "Answers without a candidate.", registry=registry)
        self.shed = Counter("mtmh_shed_requests", "Requests turned away with 429.", registry=registry)
        self.in_flight = Gauge("mtmh_in_flight", "Requests being worked on.", registry=registry)
        self.exposures = Counter(
            "mtmh_exposures", "Exposures, by whether they are on disk.", ["logged"], registry=registry
        )
        self.arm = Counter("mtmh_arm_answers", "Answers by arm.", ["arm"], registry=registry)
        self.loaded: dict[str, bool] = {}  # version -> whether it is the champion
        registry.register(_Loaded(self))
        self.swaps = Counter("mtmh_version_swaps", "Champions taken over.", registry=registry)
        self.refused = Counter("mtmh_versions_refused", "Versions that failed to load or warm up.", registry=registry)
        self.reloads = Counter("mtmh_config_reloads", "Configurations read again.", ["outcome"], registry=registry)


class _Loaded:
    """The versions that take traffic now: what is unloaded is not told of any more."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """As prometheus_client asks its collectors."""
        told = "1 for each loaded version; champion says which."
        family = GaugeMetricFamily("mtmh_model_version_loaded", told, labels=["version", "champion"])
        for version, champion in self.metrics.loaded.items():
            family.add_metric([version, str(champion).lower()], 1)
        yield family
