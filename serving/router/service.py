"""The router without its transport: started, watching, stopped; asked by HTTP and gRPC alike."""

import asyncio
import logging
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from mtmh.exposures.log import LogWriter
from mtmh.exposures.ship import ship
from serving.router.configuration import Configuration
from serving.router.history import Histories
from serving.router.limits import Admission, Deadline, RequestError, Tokens
from serving.router.loading import Models
from serving.router.metrics import Metrics
from serving.router.readiness import PAUSE as PROBE_PAUSE
from serving.router.readiness import Readiness
from serving.router.retrieve import RETRY_AFTER, Retrieval, RetrievalResult
from serving.router.schema import Engagement, RetrieveRequest, SimilarRequest
from serving.router.settings import Settings, Source
from serving.router.triton_channel import TritonChannel
from serving.router.versions import Versions
from serving.router.watch import watch
from serving.triton import bucket
from serving.triton.management import headers

SHIP_PAUSE = 10.0  # seconds between two looks for finished segments of the log

log = logging.getLogger("mtmh.router")


class Service:
    """One router. Raises UserError when its configuration is wrong."""

    def __init__(self, source: Source) -> None:
        self.metrics = Metrics()
        self.configuration = Configuration(source, self.metrics)
        self.admission = Admission(self.settings.limits, self.metrics)
        self.secret = source.secret or self.settings.triton.read_secret()

    @property
    def settings(self) -> Settings:
        """Those in force now."""
        return self.configuration.in_force.settings

    @property
    def tokens(self) -> Tokens | None:
        """Of which a caller must show one; None where nobody is asked."""
        return self.configuration.in_force.tokens

    async def start(self) -> None:
        """Connect, open the log, and begin to watch. Raises UserError when another process has the
        log.
        """
        settings = self.settings
        self.channel = TritonChannel(settings.triton.url)
        self.histories = Histories(settings.features)
        self.readiness = Readiness(self.channel)
        self.versions = Versions(
            settings.store,
            Models(self.channel, settings.triton, headers(self.secret)),
            self.histories,
            self.readiness,
            self.metrics,
            settings.experiment,
        )
        self.retrieval = Retrieval(self.channel, self.versions, self.histories, self.metrics)
        self.log = (
            LogWriter(settings.log.directory, segment_seconds=settings.log.segment_seconds)
            if settings.log.directory
            else None
        )
        self.metrics.log_kept.set(self.log is not None)
        self.metrics.ready.set_function(lambda: float(self.versions.ready))
        # Each in a task of its own: where one hangs, the others go on.
        watches = [
            watch("configuration", self._reload, self._poll),
            watch("versions", self.versions.look, self._poll),
            watch("readiness", self._probe, lambda: PROBE_PAUSE),
        ]
        if settings.bucket:
            watches.append(watch("bucket", self._follow, self._poll))
        if settings.log.bucket:
            watches.append(watch("log", self._ship, lambda: SHIP_PAUSE))
        self.watching = [asyncio.create_task(looking) for looking in watches]

    async def stop(self) -> None:
        """Finish what is written, and hang up; Triton keeps its models for whoever comes next."""
        for task in self.watching:
            task.cancel()
        await asyncio.gather(*self.watching, return_exceptions=True)
        if self.log is not None:
            await self.log.close()
            if self.settings.log.bucket:
                await self._ship()
        self.histories.threads.shutdown(wait=False, cancel_futures=True)
        await self.channel.client.close()

    def _poll(self) -> float:
        """Seconds between two looks."""
        return self.settings.triton.poll_seconds

    async def _reload(self) -> None:
        if await asyncio.to_thread(self.configuration.look):
            self.admission.limits = self.settings.limits
            self.versions.adopt(self.settings.experiment)

    async def _follow(self) -> None:
        """Bring what the bucket says into the store: `versions.look` takes it up from there."""
        now = self.settings
        await asyncio.to_thread(bucket.follow, now.bucket, now.store, now.experiment.versions)

    async def _ship(self) -> None:
        """Move the log's finished segments to its bucket."""
        if (log_settings := self.settings.log).directory is not None:
            await asyncio.to_thread(ship, log_settings.directory, log_settings.bucket)

    async def _probe(self) -> None:
        """Where nobody has had an answer of a channel that serves lately, ask for one."""
        if (serving := self.versions.serving) is not None:
            await self.readiness.probe([live.package for live in serving.live.values()])

    @contextmanager
    def admit(self, requests: int = 1) -> Iterator[Deadline]:
        """Let requests in, with the deadline of each. Raises RequestError 429 when there are too
        many.
        """
        with self.admission.admit(requests):
            yield Deadline(self.settings.limits.deadline_ms)

    async def retrieve(
        self, request: RetrieveRequest, request_id: str, deadline: Deadline
    ) -> dict[str, Any]:
        """The answer of /v1/retrieve (schema.Answer); raises RequestError."""
        result = await self.retrieval.retrieve(request, self.settings.limits, deadline)
        return await self._answer(result, request_id, request.user_id, "retrieve", deadline)

    async def similar(
        self, request: SimilarRequest, request_id: str, deadline: Deadline
    ) -> dict[str, Any]:
        """The answer of /v1/similar; raises RequestError."""
        result = await self.retrieval.similar(request, self.settings.limits, deadline)
        return await self._answer(result, request_id, request.user_id, "similar", deadline)

    async def batch(
        self, requests: Sequence[RetrieveRequest], request_id: str
    ) -> list[dict[str, Any]]:
        """An answer or a problem for each. Raises RequestError 429 and 422 for the batch as a
        whole.
        """
        if len(requests) > (most := self.settings.limits.batch):
            raise RequestError(
                422,
                f"requests: {len(requests)} are more than one batch takes, {most} (limits.batch).",
            )

        # One bad request must not cost the others their answers.
        async def answer(
            request: RetrieveRequest, request_id: str, deadline: Deadline
        ) -> dict[str, Any]:
            try:
                return await self.retrieve(request, request_id, deadline)
            except RequestError as error:
                return {"error": error.message, "request_id": request_id, "status": error.status}

        # Let in together, with one deadline; each has its own id in log and answer.
        with self.admit(len(requests)) as deadline:
            ids = [f"{request_id}-{position}" for position in range(len(requests))]
            return list(
                await asyncio.gather(*map(answer, requests, ids, [deadline] * len(requests)))
            )

    async def engagements(
        self, engagements: Sequence[Engagement], call_id: str, key: str | None = None
    ) -> int:
        """Write them to the log; how many are on disk. Raises RequestError 503 when they are not.

        `call_id` and, where the caller named one, its idempotency `key` tell a call that comes
        again from a new one.
        """
        # The same moment for every engagement of the call that has no time.
        now = datetime.now(UTC)
        records = [
            record_of(engagement, position, now, call_id, key)
            for position, engagement in enumerate(engagements)
        ]
        # Come back in a minute, not a second: it takes a restart to switch the log on.
        if self.log is None:
            raise RequestError(
                503, "this router keeps no log: set log.directory in its configuration.", 60
            )
        try:
            await self.log.append(records)
        except ValueError as error:
            # Nothing has been written yet: the caller can mend the call and send it again.
            raise RequestError(422, str(error)) from None
        except OSError as error:
            # Nobody else has a copy of these, so the caller has to know, and send them again.
            log.error("engagements not logged", extra={"fields": {"why": str(error)}})
            self.metrics.engagements.labels("false").inc(len(records))
            raise RequestError(
                503, "the log cannot be written now; nothing was kept: retry.", RETRY_AFTER
            ) from None
        self.metrics.engagements.labels("true").inc(len(records))
        return len(records)

    async def _answer(
        self,
        result: RetrievalResult,
        request_id: str,
        user_id: str | None,
        surface: str,
        deadline: Deadline,
    ) -> dict[str, Any]:
        columns = result.columns()
        # A new one: callers may use the same request_id for several answers.
        exposure_id = uuid.uuid4().hex
        logged = False
        # Without a user there is nobody whose arm could be compared.
        if self.log is not None and user_id is not None:
            start = time.perf_counter()
            logged = await self._expose(
                result, columns, (exposure_id, request_id), user_id, surface, deadline
            )
            result.seconds["log"] = time.perf_counter() - start
            self.metrics.stage_seconds.labels("log").observe(result.seconds["log"])
        # Measured last, so that it includes the wait for the log.
        result.seconds["total"] = time.perf_counter() - deadline.start
        self.metrics.stage_seconds.labels("total").observe(result.seconds["total"])
        number = result.package.number
        self.metrics.by_version.seconds.labels(number).observe(result.seconds["total"])
        return {
            "request_id": request_id,
            "exposure_id": exposure_id,
            "model_version": number,
            "arm": result.arm,
            **result.quotas.answered(),
            "degraded": bool(result.missing),
            "missing": result.missing,
            "candidates": rows_of(columns),
            "timings_ms": milliseconds(result),
            "exposure_logged": logged,
        }

    async def _expose(
        self,
        result: RetrievalResult,
        columns: dict[str, list[Any]],
        ids: tuple[str, str],
        user_id: str,
        surface: str,
        deadline: Deadline,
    ) -> bool:
        """Whether the exposure is on disk, within the deadline; an answer does not fail for want of
        its log.

        `ids` are the exposure's own and the caller's request_id.
        """
        assert self.log is not None
        exposure_id, request_id = ids
        # Quotas as used beside the arm's: some of the caller's own tell nothing about the arm.
        used, of_arm = result.quotas, result.arm_quotas
        record = {
            "kind": "exposure",
            "log_version": 2,
            "exposure_id": exposure_id,
            "request_id": request_id,
            "timestamp": datetime.now(UTC),
            "user_id": user_id,
            "arm": result.arm,
            "model_version": result.package.number,
            "alpha": used.alpha,
            "arm_alpha": of_arm.alpha,
            "own_alpha": result.own_quotas,
            "quotas": used.logged,
            "arm_quotas": of_arm.logged,
            "degraded": bool(result.missing),
            "k": result.k,
            "surface": surface,
            **columns,
        }
        # A slow or broken disk must not hold up the answer, which says that nothing was logged.
        try:
            async with asyncio.timeout(max(deadline.left(), 0)):
                await self.log.append([record])
        except (OSError, TimeoutError) as error:  # TimeoutError is an OSError; named for the reader
            log.error(
                "exposure not logged",
                extra={"fields": {"request_id": request_id, "why": str(error) or "too slow"}},
            )
            self.metrics.exposures.labels("false").inc()
            return False
        self.metrics.exposures.labels("true").inc()
        return True


def record_of(
    engagement: Engagement, position: int, now: datetime, call_id: str, key: str | None
) -> dict[str, Any]:
    """The log's record of the engagement at `position` in a call.

    A call that comes again under the same `key` gives the same event_id; without a key, the call's
    id counts where the engagement has no time of its own, as two times tell two engagements.
    """
    record = {**engagement.model_dump(), "kind": "engagement", "log_version": 2}
    if record["event_id"] is None and key is not None:
        record["event_id"] = f"{key}/{position}"
    if record["event_id"] is None and engagement.timestamp is None:
        record["call_id"] = f"{call_id}/{position}"
    return {**record, "timestamp": engagement.timestamp or now}


def rows_of(columns: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """The candidates of `RetrievalResult.columns`, each as it is answered."""
    return [
        {
            "item_id": item_id,
            "score": score,
            "head": head,
            "head_rank": head_rank,
            "trigger_id": trigger_id,
        }
        for item_id, score, head, head_rank, trigger_id in zip(*columns.values(), strict=True)
    ]


def milliseconds(result: RetrievalResult) -> dict[str, float]:
    """The stages' times as answered."""
    return {stage: round(1000 * seconds, 3) for stage, seconds in result.seconds.items()}
