"""From a request to its candidates: triggers, channels, filters, quota merge (paper section 5)."""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from mtmh.errors import UserError
from mtmh.experiment.arms import NO_ARM, Arm
from mtmh.retrieval.merge import Merged, offers_passed, quota_merge
from serving.router.heads import HeadFailure, HeadList, Triggers, ask, inputs_of
from serving.router.history import Histories
from serving.router.limits import Deadline, RequestError, check_limits
from serving.router.metrics import Metrics
from serving.router.package import Package
from serving.router.quotas import Quotas
from serving.router.schema import Filters, RetrieveRequest, SimilarRequest, Trigger
from serving.router.settings import Limits
from serving.router.triton_channel import TritonChannel
from serving.router.versions import Versions

NOTHING = HeadList(np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0, np.int32), 0, 0.0)
RETRY_AFTER = 1  # seconds; by then Triton's models or the store may be back


@dataclass
class RetrievalResult:
    """What is answered; row i of `merged` is the i-th candidate."""

    package: Package
    arm: str
    quotas: Quotas
    arm_quotas: Quotas  # what the arm, or the version without one, has
    own_quotas: bool  # the caller named some
    k: int
    triggers: list[str]
    lists: dict[str, HeadList]  # of the channels that answered, after the filters
    merged: Merged
    missing: list[str]
    seconds: dict[str, float] = field(default_factory=dict)

    def columns(self) -> dict[str, list[Any]]:
        """item_id, score, head (the channel's name), head_rank (from 1) and trigger_id of the
        candidates, side by side.
        """
        merged, lists = self.merged, self.of_channels()
        n = int(np.count_nonzero(merged.item[0] >= 0))
        score = merged.take([candidates.score[None] for candidates in lists], 0.0)[0, :n]
        trigger_at = merged.take([candidates.trigger_at[None] for candidates in lists], -1)[0, :n]
        ids, triggers, names = self.package.item_ids, self.triggers, self.package.channel_names
        return {
            "item_id": [ids[row] for row in merged.item[0, :n].tolist()],
            "score": score.tolist(),
            "head": [names[number] for number in merged.channel[0, :n].tolist()],
            "head_rank": (merged.rank[0, :n] + 1).tolist(),
            "trigger_id": [triggers[position] for position in trigger_at.tolist()],
        }

    def of_channels(self) -> list[HeadList]:
        """Each channel's list, in the order of the version's channels; empty where one did not
        answer.
        """
        return [self.lists.get(channel, NOTHING) for channel in self.package.channel_names]


@dataclass
class Retrieval:
    """Everything a request needs that outlives it."""

    channel: TritonChannel
    versions: Versions
    histories: Histories
    metrics: Metrics

    @contextmanager
    def version(
        self, user_id: str | None, request_id: str = ""
    ) -> Iterator[tuple[Package, Arm | None]]:
        """The version and arm of a user, in use while this is open; without a user the request's id
        says whether it is the canary's. Raises RequestError 503 where none is ready.
        """
        serving = self.versions.serving
        if serving is None:
            self.metrics.unanswered.labels("version").inc()
            raise RequestError(
                503, "no model version is ready yet (/readyz says why): retry.", RETRY_AFTER
            )
        live, arm = serving.choose(user_id, request_id)
        with live.used() as package:
            yield package, arm

    async def retrieve(
        self, request: RetrieveRequest, limits: Limits, deadline: Deadline
    ) -> RetrievalResult:
        """Candidates for a user's history or for triggers; none for an unknown user, or where
        nothing is known.

        Raises RequestError: 422 for what the version or the limits do not allow, 503 when no
        channel answers, or the history of a user without triggers cannot be read.
        """
        k = check_limits(request, len(request.triggers or ()), limits)
        if request.user_id is None and request.triggers is None:
            raise RequestError(
                422, "user_id and triggers are both missing: give one of them, or both."
            )
        # Held until the merge is done, so that the version is not unloaded under the request.
        with self.version(request.user_id, uuid.uuid4().hex) as (package, arm):
            seen = await self._history(package, request, deadline)
            # With triggers in the request, the history only says what was seen.
            distinct = _distinct((seen or []) if request.triggers is None else request.triggers)
            triggers = _checked(
                package, dict(islice(distinct.items(), package.serving["triggers"]))
            )
            # Triggers may be neighbours of each other: they are left out along with the history.
            exclude = (
                list(dict.fromkeys([*triggers, *(seen or [])]))
                if request.filters.exclude_seen
                else []
            )
            depth = (arm and arm.k_ann) or package.serving["k_ann"]
            result = RetrievalResult(
                package, arm.name if arm else NO_ARM, *_quotas(request, arm, package), k,
                list(triggers), {}, NO_MERGE, [],
            )  # fmt: skip
            if seen is None:
                result.missing.append("history")
            result.seconds["history"] = time.perf_counter() - deadline.start
            models = package.models_of("retrieve_", package.channel_names)
            await self._ask(result, models, triggers, exclude, depth, "score", deadline)
            self._merge(result, request.filters)
            return result

    async def similar(
        self, request: SimilarRequest, limits: Limits, deadline: Deadline
    ) -> RetrievalResult:
        """Plain item to item: each channel's nearest by cosine, merged as
        mtmh.retrieval.query.similar does.
        """
        k = check_limits(request, 1, limits)
        with self.version(request.user_id, uuid.uuid4().hex) as (package, arm):
            triggers = _checked(package, _distinct([request.item_id]))
            # Deeper than k, as the merge drops what several offer. As mtmh.retrieval.query does.
            depth = min(max(2 * k, 50), max(len(package.item_ids) - 1, 1))
            result = RetrievalResult(
                package, arm.name if arm else NO_ARM, *_quotas(request, arm, package), k,
                list(triggers), {}, NO_MERGE, [],
            )  # fmt: skip
            models = package.models_of("", package.channel_names)
            await self._ask(result, models, triggers, [], depth, "similarity", deadline)
            self._merge(result, Filters())
            return result

    async def _history(
        self, package: Package, request: RetrieveRequest, deadline: Deadline
    ) -> list[str] | None:
        """What the user engaged with, where it is needed; None when it cannot be read, and is not
        needed most.
        """
        if request.user_id is None or (
            request.triggers is not None and not request.filters.exclude_seen
        ):
            return []
        seen = await self.histories.read(package.folder, request.user_id, deadline.left())
        if seen is None and request.triggers is None:
            self.metrics.unanswered.labels("history").inc()
            text = (
                "the user's history cannot be read now: retry, or give triggers, which are "
                "answered without it."
            )
            raise RequestError(503, text, RETRY_AFTER)
        return seen

    async def _ask(
        self,
        result: RetrievalResult,
        models: Mapping[str, str],
        triggers: Triggers,
        exclude: list[str],
        depth: int,
        score: str,
        deadline: Deadline,
    ) -> None:
        """Fill in `lists`, `missing` and the times. Raises RequestError 503 when no channel
        answers.
        """
        # An unknown user: an empty answer without asking Triton, and no error.
        if not triggers:
            result.lists = dict.fromkeys(models, NOTHING)
            return
        inputs = inputs_of(result.package, triggers, exclude, depth)
        answers = await ask(self.channel.client, models, inputs, score, deadline)
        # A real answer of a channel, preranker and all, makes the next probe unnecessary.
        if score == "score":
            self.versions.readiness.note(result.package.number, answers)
        # All channels were given the same triggers, so the cold ones are counted once.
        cold = 0
        for channel, answer in answers.items():
            result.seconds[channel] = answer.seconds
            if isinstance(answer, HeadFailure):
                result.missing.append(channel)
                self.metrics.channels.calls_failed.labels(channel, answer.reason).inc()
            else:
                result.lists[channel], cold = answer, answer.cold
        # One channel alone still makes an answer; only without any is it an error.
        if not result.lists:
            self.metrics.unanswered.labels("heads").inc()
            self.metrics.by_version.unanswered.labels(result.package.number).inc()
            why = ", ".join(
                f"{name}: {a.reason}" for name, a in answers.items() if isinstance(a, HeadFailure)
            )
            raise RequestError(503, f"no head answered ({why}): retry.", RETRY_AFTER)
        self.metrics.triggers.inc(len(triggers))
        self.metrics.cold.inc(cold)

    def _merge(self, result: RetrievalResult, filters: Filters) -> None:
        start = time.perf_counter()
        try:
            for channel, candidates in result.lists.items():
                keep = result.package.sift(filters, candidates.item)
                if keep is not None:
                    result.lists[channel] = candidates.selected(keep)
        except UserError as error:
            raise RequestError(422, str(error)) from None
        # Of each channel the merge takes k at the most: what lies behind cannot matter.
        rows = [candidates.item[None, : result.k] for candidates in result.of_channels()]
        result.merged = quota_merge(rows, result.quotas.percent, result.k)
        result.seconds["merge"] = time.perf_counter() - start
        self._count(result)

    def _count(self, result: RetrievalResult) -> None:
        channel, rank = result.merged.channel[0], result.merged.rank[0]
        passed_over = 0
        for number, name in enumerate(result.package.channel_names):
            # Skipped above the last one taken: those that another channel had offered first.
            ranks = rank[channel == number]
            if len(ranks):
                self.metrics.channels.merged[name].inc(len(ranks))
                passed_over += int(ranks[-1]) + 1 - len(ranks)
        self.metrics.duplicates.inc(passed_over)
        # The last candidate shows how far down the merge went in every list.
        version, by_version = result.package.number, self.metrics.by_version
        if answered := int(np.count_nonzero(channel >= 0)):
            self._count_offers(result, int(channel[answered - 1]), int(rank[answered - 1]))
            by_version.candidates.labels(version).inc(answered)
        else:
            self.metrics.empty.inc()
            by_version.empty.labels(version).inc()
        if result.missing:
            by_version.degraded.labels(version).inc()
        for part in result.missing:
            self.metrics.degraded.labels(part).inc()
        for stage, seconds in result.seconds.items():
            self.metrics.stage_seconds.labels(stage).observe(seconds)
        self.metrics.arm.labels(result.arm).inc()

    def _count_offers(self, result: RetrievalResult, channel: int, rank: int) -> None:
        """What the merge went through of each channel, and what its quota gives it: apart where a
        list ended early.
        """
        lengths = [min(len(candidates.item), result.k) for candidates in result.of_channels()]
        offers = offers_passed(channel, rank, result.quotas.percent, lengths)
        for name, passed, quota in zip(
            result.quotas.channels, offers, result.quotas.percent, strict=True
        ):
            self.metrics.channels.offers[name].inc(passed)
            self.metrics.channels.quota[name].inc(quota / 100 * sum(offers))


def _quotas(
    request: RetrieveRequest | SimilarRequest, arm: Arm | None, package: Package
) -> tuple[Quotas, Quotas, bool]:
    """The quotas to use, the arm's, and whether the caller named their own.

    Raises RequestError 422 where theirs are not this version's.
    """
    of_arm = Quotas.served(package, arm)
    if request.quotas is not None and request.alpha is not None:
        raise RequestError(422, "alpha and quotas say the same: give one of them.")
    try:
        if request.quotas is not None:
            return Quotas.by_name(package.channels, request.quotas), of_arm, True
        if request.alpha is not None:
            return Quotas.of_alpha(package.channels, request.alpha), of_arm, True
    except UserError as error:
        raise RequestError(422, str(error)) from None
    return of_arm, of_arm, False


def _checked(package: Package, triggers: Triggers) -> Triggers:
    """The triggers; of an item that the version knows its own features count, not the request's.

    Raises RequestError 422 on features that the version does not have.
    """
    features = package.serving["features"]
    checked: dict[str, Trigger | None] = {}
    for item_id, trigger in triggers.items():
        checked[item_id] = None if item_id in package.row_of else trigger
        if trigger is None or item_id in package.row_of:
            continue
        # What this version has no input for would be left out without a word.
        where = f"trigger {item_id!a}"
        for key, values in (("id", trigger.id_features), ("float", trigger.float_features)):
            if unknown := sorted(set(values) - set(features[key])):
                text = f"{where}, {key}_features: no feature {unknown[0]!a} in this version"
                raise RequestError(422, f"{text}; it has {', '.join(features[key]) or 'none'}.")
        width = features["content"]  # 0: this version reads no content
        if trigger.content is not None and width and len(trigger.content) != width:
            text = f"{where}, content: {len(trigger.content)} numbers"
            raise RequestError(422, f"{text}, this version's have {width}.")
    return checked


def _distinct(named: Sequence[str | Trigger]) -> dict[str, Trigger | None]:
    """Each item once, where it is first named, and what is said of it there."""
    triggers: dict[str, Trigger | None] = {}
    for trigger in named:
        if isinstance(trigger, str):
            triggers.setdefault(trigger, None)
        else:
            triggers.setdefault(trigger.item_id, trigger)
    return triggers


NO_MERGE = Merged(np.zeros((1, 0), np.int32), np.zeros((1, 0), np.int8), np.zeros((1, 0), np.int32))
