"""What Prometheus reads of the router, in a registry of its own."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.core import GaugeMetricFamily

# Buckets, narrow where most answers are; the last one is the default deadline.
SECONDS = (
    0.0005,
    0.001,
    0.002,
    0.003,
    0.005,
    0.0075,
    0.01,
    0.015,
    0.02,
    0.03,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
)

STAGES = ("history", "merge", "log", "total")  # beside the channels
REASONS = ("slow", "busy", "gone", "failed")  # why a channel gave none


@dataclass(frozen=True)
class Loaded:
    """A version that takes traffic; times in seconds since 1970, None where its package does not
    tell them.
    """

    champion: bool
    items: int
    packaged: float | None
    newest_item: float | None  # the time of creation of the newest item that it can answer


class VersionMetrics:
    """Figures of each version that takes traffic, to compare a canary with the champion; those of
    one that is unloaded go with it, so that their number is bounded.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, means: str) -> Counter:
            return Counter(f"mtmh_version_{name}", means, ["version"], registry=registry)

        self.seconds = Histogram(
            "mtmh_version_seconds",
            "Latency of answers, by version.",
            ["version"],
            buckets=SECONDS,
            registry=registry,
        )
        self.candidates = counter("candidates", "Candidates answered, by version.")
        self.empty = counter("empty_answers", "Answers without a candidate, by version.")
        self.degraded = counter("degraded_answers", "Answers that lack something, by version.")
        self.unanswered = counter("unanswered", "503 answers for want of a head, by version.")
        self.all = (self.seconds, self.candidates, self.empty, self.degraded, self.unanswered)

    def begin(self, version: str) -> None:
        """From zero, where the version is new."""
        for figure in self.all:
            figure.labels(version)

    def forget(self, version: str) -> None:
        """The version is unloaded."""
        with warnings.catch_warnings():
            # Said because of the variable that Feast sets; our figures are in no files (`Metrics`).
            warnings.filterwarnings("ignore", "Removal of labels", UserWarning)
            for figure in self.all:
                figure.remove(version)


class ChannelMetrics:
    """Figures of each channel that has served. Their label is `head`, from when each channel was
    one: it is the channel's name.
    """

    def __init__(self, registry: CollectorRegistry, stages: Histogram, degraded: Counter) -> None:
        def counter(name: str, means: str, *labels: str) -> Counter:
            return Counter(f"mtmh_{name}", means, ["head", *labels], registry=registry)

        # A channel is a stage of an answer, and a part that it may lack, as other things are.
        self.stages, self.degraded = stages, degraded
        self.merged_candidates = counter("merged_candidates", "Candidates answered, by channel.")
        self.all_offers = counter(
            "offers", "What the merge went through of each channel: taken, or another's came first."
        )
        self.all_quota = counter(
            "quota_offers", "Of what the merge went through, what each channel's quota gives it."
        )
        self.calls_failed = counter(
            "head_calls_failed", "Calls of a channel without an answer.", "reason"
        )
        self.silent = Gauge(
            "mtmh_channel_silent",
            "1 while a channel that serves does not answer.",
            ["head"],
            registry=registry,
        )
        # Labels are looked up once, not again with every request.
        self.merged: dict[str, Counter] = {}
        self.offers: dict[str, Counter] = {}
        self.quota: dict[str, Counter] = {}

    def begin(self, channel: str, silent: Callable[[str], bool]) -> None:
        """From zero, where the channel is new; `silent` says now and then whether it is."""
        self.merged[channel] = self.merged_candidates.labels(channel)
        self.offers[channel] = self.all_offers.labels(channel)
        self.quota[channel] = self.all_quota.labels(channel)
        self.stages.labels(channel)
        self.degraded.labels(channel)
        for reason in REASONS:
            self.calls_failed.labels(channel, reason)
        self.silent.labels(channel).set_function(lambda: float(silent(channel)))


class Metrics:
    """Every figure, by name; one instance a router."""

    def __init__(self) -> None:
        # Feast, when it is imported, tells prometheus_client to keep figures in files for many
        # processes. A router is a single one.
        values.ValueClass = values.MutexValue
        self.registry = registry = CollectorRegistry()
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.stage_seconds = histogram(
            "mtmh_stage_seconds",
            f"Latency of each stage: each channel, {', '.join(STAGES)}.",
            ["stage"],
            buckets=SECONDS,
        )
        self.duplicates = counter(
            "mtmh_duplicates_removed", "Offers dropped because another channel's came first."
        )
        self.degraded = counter(
            "mtmh_degraded_answers", "Answers without a channel or the history.", ["part"]
        )
        self.channels = ChannelMetrics(registry, self.stage_seconds, self.degraded)
        self.unanswered = counter("mtmh_unanswered", "503 answers, by what was gone.", ["part"])
        self.triggers = counter("mtmh_triggers", "Triggers the channels were asked with.")
        self.cold = counter("mtmh_cold_triggers", "Triggers of which a version knows nothing.")
        self.empty = counter("mtmh_empty_answers", "Answers without a candidate.")
        self.arm = counter("mtmh_arm_answers", "Answers by arm.", ["arm"])
        self.ready = gauge("mtmh_ready", "1 while a version takes traffic and answers.")
        self.by_version = VersionMetrics(registry)
        self.loaded: dict[str, Loaded] = {}  # by version
        registry.register(_Versions(self))
        self._of_requests(registry)
        self._of_the_log(registry)
        self._of_changes(registry)
        self._begin_at_zero()

    def _of_requests(self, registry: CollectorRegistry) -> None:
        """Figures of who asks, and of who is turned away."""
        counter = partial(Counter, registry=registry)
        self.requests = counter(
            "mtmh_requests", "Requests answered, by path and status.", ["path", "status"]
        )
        self.callers = counter(
            "mtmh_caller_requests",
            "Requests of callers with a token of their own, by name and status.",
            ["caller", "status"],
        )
        self.shed = counter("mtmh_shed_requests", "Requests turned away with 429.")
        self.connections_closed = counter(
            "mtmh_connections_closed",
            "Connections turned away: headers too large or too slow, or too many connections.",
            ["reason"],
        )
        self.in_flight = Gauge("mtmh_in_flight", "Requests being worked on.", registry=registry)

    def _of_the_log(self, registry: CollectorRegistry) -> None:
        """Figures of what is kept of answers and of what users do."""
        # Logged and lost in one counter, so that the share lost is a simple division.
        self.exposures = Counter(
            "mtmh_exposures",
            "Exposures, by whether they are on disk.",
            ["logged"],
            registry=registry,
        )
        self.engagements = Counter(
            "mtmh_engagements",
            "Engagements received, by whether they are on disk.",
            ["logged"],
            registry=registry,
        )
        self.log_kept = Gauge(
            "mtmh_log_kept", "1 where exposures are kept: log.directory is set.", registry=registry
        )

    def _of_changes(self, registry: CollectorRegistry) -> None:
        """Figures of what changes while the router runs: versions and configuration."""
        self.swaps = Counter("mtmh_version_swaps", "Champions taken over.", registry=registry)
        self.refused = Counter(
            "mtmh_versions_refused", "Versions that failed to load or warm up.", registry=registry
        )
        self.champion_missing = Gauge(
            "mtmh_champion_missing",
            "1 while another version serves in place of the champion that the store names.",
            registry=registry,
        )
        self.reloads = Counter(
            "mtmh_config_reloads", "Configurations read again.", ["outcome"], registry=registry
        )
        # A gauge as well: the counter above does not show when a refusal is over.
        self.config_refused = Gauge(
            "mtmh_config_refused",
            "1 while the configuration or the token file on disk is refused.",
            registry=registry,
        )
        self.experiment_pending = Gauge(
            "mtmh_experiment_pending",
            "1 while an experiment waits for a version that an arm names.",
            registry=registry,
        )

    def _begin_at_zero(self) -> None:
        """Every series that is known: of one that began at 1, Prometheus would not see the first
        increase.
        """
        self.degraded.labels("history")
        for stage in STAGES:
            self.stage_seconds.labels(stage)
        for part in ("version", "heads", "history"):
            self.unanswered.labels(part)
        for counter in (self.exposures, self.engagements):
            for logged in ("true", "false"):
                counter.labels(logged)
        for reason in ("headers", "slow", "full"):
            self.connections_closed.labels(reason)
        for outcome in ("taken", "pending", "refused"):
            self.reloads.labels(outcome)


class _Versions:
    """The versions that take traffic now: what is unloaded is not told of any more.

    Times are told, not ages: an age is `time() -` it, right at any moment and with any router that
    has stopped.
    """

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """As prometheus_client asks its collectors."""
        names = ["version", "champion"]
        # Built for every scrape, so that unloaded versions leave no series behind.
        loaded = GaugeMetricFamily(
            "mtmh_model_version_loaded",
            "1 for each loaded version; champion says which.",
            labels=names,
        )
        items = GaugeMetricFamily(
            "mtmh_index_items", "Items that a version can answer.", labels=names
        )
        packaged = GaugeMetricFamily(
            "mtmh_index_packaged_timestamp_seconds", "When a version was packaged.", labels=names
        )
        newest = GaugeMetricFamily(
            "mtmh_index_newest_item_timestamp_seconds",
            "When a version's newest item was created.",
            labels=names,
        )
        for version, state in self.metrics.loaded.items():
            labels = [version, str(state.champion).lower()]
            figures = (
                (loaded, 1.0),
                (items, state.items),
                (packaged, state.packaged),
                (newest, state.newest_item),
            )
            for family, value in figures:
                # Unknown times get no series: 0 would mean 1970.
                if value is not None:
                    family.add_metric(labels, value)
        yield from (loaded, items, packaged, newest)
