"""The channels' answers from Triton, asked in parallel: each has its list, or the reason why there
is none. A channel is a head's index with the preranker behind it.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import numpy as np
from tritonclient.grpc import InferInput, InferRequestedOutput
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from serving.router.limits import Deadline
from serving.router.package import Package
from serving.router.schema import Trigger

CHANNEL = [
    # Where the name stands for several pods of Triton, each has its turn.
    (
        "grpc.lb_policy_name",
        "round_robin",
    ),
    ("grpc.dns_min_time_between_resolutions_ms", 5000),
    # A server that comes back is found within a second, not after gRPC's two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
]
MERGE_SECONDS = 0.005  # of the budget is kept for what comes after the heads
RETRY_SECONDS = 0.02  # before the one retry of a call that reached no model
RANKED = ("item", "score", "trigger_at", "cold")
NEAREST = ("item", "similarity", "trigger_at", "cold")
REASON_OF = {  # status of a call -> why there is no answer
    str(grpc.StatusCode.DEADLINE_EXCEEDED): "slow",
    str(grpc.StatusCode.UNAVAILABLE): "gone",
    str(grpc.StatusCode.NOT_FOUND): "gone",
}
# What Triton says, UNAVAILABLE as well, of a request that its queue has no room or no time for.
QUEUE_FULL = ("exceeds maximum queue size", "request timeout expired")

# Item ids, newest first -> what the request says of it, if that counts.
Triggers = Mapping[str, Trigger | None]


@dataclass(frozen=True)
class HeadList:
    """One head's candidates, best first."""

    item: np.ndarray  # int32 [n], rows of the version's items
    score: np.ndarray  # float32 [n]
    trigger_at: np.ndarray  # int32 [n], place in the triggers asked
    cold: int  # triggers of which nothing is known
    seconds: float

    @classmethod
    def read(cls, result: Any, score: str, start: float) -> "HeadList":
        """A model's outputs, ranked by its output `score`; it was asked at `start`."""
        item = result.as_numpy("item")[0]
        n = int(np.count_nonzero(item >= 0))  # -1 only at the end
        scores, trigger_at = result.as_numpy(score)[0, :n], result.as_numpy("trigger_at")[0, :n]
        cold = int(result.as_numpy("cold")[0, 0])
        return cls(item[:n], scores, trigger_at, cold, time.perf_counter() - start)

    def selected(self, keep: np.ndarray) -> "HeadList":
        """Those of bool [n]."""
        return HeadList(
            self.item[keep], self.score[keep], self.trigger_at[keep], self.cold, self.seconds
        )


@dataclass(frozen=True)
class HeadFailure:
    """A head that did not answer: "slow" (out of time), "busy" (too many wait for it), "gone" (no
    server, no such model) or "failed".
    """

    reason: str
    detail: str
    seconds: float

    @classmethod
    def of(cls, error: InferenceServerException, seconds: float) -> "HeadFailure":
        """What the client's error means."""
        message = str(error.message())
        reason = REASON_OF.get(error.status(), "failed")
        if any(words in message.lower() for words in QUEUE_FULL):
            reason = "busy"
        return cls(reason, message, seconds)


def connect(url: str) -> InferenceServerClient:
    """A client of the server at `url`; it connects, and connects again, when it is asked
    something.
    """
    return InferenceServerClient(url, channel_args=CHANNEL)


async def ask(
    client: InferenceServerClient,
    models: Mapping[str, str],
    inputs: list[InferInput],
    score: str,
    deadline: Deadline,
) -> dict[str, HeadList | HeadFailure]:
    """Each channel's answer. `models`: channel -> model in Triton; `score` "score" or "similarity",
    the output to rank by.
    """
    calls = [_ask_one(client, model, inputs, score, deadline) for model in models.values()]
    return dict(zip(models, await asyncio.gather(*calls), strict=True))


def inputs_of(
    package: Package, triggers: Triggers, exclude: Sequence[str], k_ann: int
) -> list[InferInput]:
    """What a head is asked: item ids newest first, ids not to return, and features where a trigger
    has any.
    """
    has_features = any(
        trigger is not None and trigger.has_features for trigger in triggers.values()
    )
    features = (
        _features(list(triggers.values()), package.serving["features"]) if has_features else {}
    )
    return [
        _bytes("trigger", list(triggers)),
        _bytes("exclude", exclude),
        _tensor("k_ann", "INT32", np.array([[k_ann]], np.int32)),
        features.get("id_features", NO_IDS),
        features.get("float_features", NO_FLOATS),
        features.get("content", NO_CONTENT),
    ]


async def _ask_one(
    client: InferenceServerClient,
    model: str,
    inputs: list[InferInput],
    score: str,
    deadline: Deadline,
) -> HeadList | HeadFailure:
    start = time.perf_counter()
    outputs = OUTPUTS[score]
    tries = 0
    while True:
        tries += 1
        left = deadline.left() - MERGE_SECONDS
        if left <= 0:
            return HeadFailure("slow", "no time was left to ask", time.perf_counter() - start)
        try:
            result = await client.infer(model, inputs, outputs=outputs, client_timeout=left)
            return HeadList.read(result, score, start)
        except InferenceServerException as error:
            # Without a connection the call surely reached no model; any other may have, and a
            # second one would add load.
            never_ran = (
                error.status() == str(grpc.StatusCode.UNAVAILABLE)
                and "failed to connect" in str(error.message()).lower()
            )
            if tries > 1 or not never_ran or deadline.left() <= RETRY_SECONDS + 2 * MERGE_SECONDS:
                return HeadFailure.of(error, time.perf_counter() - start)
            await asyncio.sleep(RETRY_SECONDS)


def _features(
    given: Sequence[Trigger | None], features: Mapping[str, Any]
) -> dict[str, InferInput]:
    """Rows of what each trigger says of itself; empty, NaN and zeros where it says nothing."""
    triggers, inputs = [trigger or NO_FEATURES for trigger in given], {}
    # Features that the version does not have are left out; inputs_of sends those empty.
    if features["id"]:
        ids = [trigger.id_features.get(name, "") for trigger in triggers for name in features["id"]]
        inputs["id_features"] = _bytes("id_features", ids)
    if features["float"]:
        # NaN tells the model that the number is missing; it would believe a 0.
        floats = [
            [trigger.float_features.get(name, np.nan) for name in features["float"]]
            for trigger in triggers
        ]
        inputs["float_features"] = _tensor(
            "float_features", "FP32", np.array(floats, np.float32).reshape(1, -1)
        )
    if features["content"]:
        content = np.zeros((len(triggers), features["content"]))  # float64: no length is too large

        for row, trigger in enumerate(triggers):
            if trigger.content:
                content[row] = trigger.content
        # Unit length, like the catalog's own content. All zeros stays zeros: no content.
        length = np.linalg.norm(content, axis=1, keepdims=True)
        content = np.divide(content, length, out=np.zeros_like(content), where=length > 0)
        inputs["content"] = _tensor("content", "FP32", content.reshape(1, -1).astype(np.float32))
    return inputs


def _bytes(name: str, values: Sequence[str]) -> InferInput:
    return _tensor(name, "BYTES", np.array([[value.encode() for value in values]], np.object_))


def _tensor(name: str, kind: str, values: np.ndarray) -> InferInput:
    tensor = InferInput(name, list(values.shape), kind)
    tensor.set_data_from_numpy(values)
    return tensor


NO_FEATURES = Trigger.model_construct(item_id="")
NO_IDS = _bytes("id_features", [])
NO_FLOATS, NO_CONTENT = (
    _tensor(name, "FP32", np.zeros((1, 0), np.float32)) for name in ("float_features", "content")
)
OUTPUTS = {names[1]: [InferRequestedOutput(name) for name in names] for names in (RANKED, NEAREST)}
