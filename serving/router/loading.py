"""A version's models in Triton: which can be asked, load, warm up, unload. Only a load may take
long.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass

import grpc
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from serving.router.heads import HeadFailure, ask, inputs_of
from serving.router.limits import Deadline
from serving.router.package import Package
from serving.router.settings import TritonSettings
from serving.router.triton_channel import TritonChannel

CALL_SECONDS = 5.0  # for every call of Triton's but a load
WARM_UPS = 3  # requests with a single trigger, after one with many
WARM_UP_SECONDS = 30.0  # a model's first answer takes longer than the next
LONGEST_PAUSE = 30.0  # seconds between two tries to load again what Triton lost

log = logging.getLogger("mtmh.router")


class NotReadyError(Exception):
    """Triton does not answer: no fault of the version."""


@dataclass
class Models:
    """Triton's models, over its channel. With `settings.manages_models` false nothing is loaded or
    unloaded.
    """

    channel: TritonChannel
    settings: TritonSettings
    secret: dict[str, str]  # metadata of the calls that manage models
    # Until when lost models are not loaded again, how long it was.
    pause: tuple[float, float] = (
        0.0,
        0.0,
    )

    @property
    def client(self) -> InferenceServerClient:
        """Triton's client, which may be another one at the next call."""
        return self.channel.client

    async def ready(self, needed: Collection[str]) -> set[str]:
        """Names of the models that can be asked. Raises NotReadyError.

        Triton lists them by what lies on the disk, which may be away for a moment, so those that
        are `needed` and not listed are looked at one by one: what is in memory answers.
        """
        if not self.settings.manages_models:  # Triton lists its models to its owner alone
            if not await self._is_up():
                raise NotReadyError("Triton does not answer")
            return {model for model in sorted(set(needed)) if await self._is_ready(model)}
        # Whoever manages the models gets the whole list in one call.
        try:
            index = await self.client.get_model_repository_index(
                headers=self.secret, client_timeout=CALL_SECONDS
            )
            listed = {model.name for model in index.models if model.state == "READY"}
        except InferenceServerException as error:
            if _is_silence(error):
                raise NotReadyError(str(error.message())) from None
            # Triton is up but cannot list them: below, each model is asked by itself.
            listed = set()
        return listed | {
            model for model in sorted(set(needed) - listed) if await self._is_ready(model)
        }

    def lacking(self, package: Package, ready: set[str]) -> list[str]:
        """The models of a version that are not ready, and that are this router's to load."""
        return [
            model for model in package.models if model not in ready and self.settings.manages_models
        ]

    async def restore(self, packages: Iterable[Package], ready: set[str]) -> None:
        """Load again what versions in use lack: Triton came back without it, or somebody took it
        away. `ready` grows.

        Raises NotReadyError.
        """
        until, length = self.pause
        lacking = {package.number: self.lacking(package, ready) for package in packages}
        for number, models in lacking.items():
            # Still pausing after a failure: loads take Triton's time from those being served.
            if not models or time.monotonic() < until:
                continue
            try:
                await self.load(models)
                # The steps after this one look into `ready`, and would load them once more.
                ready.update(models)
                self.pause = (0.0, 0.0)
                log.warning(
                    "models loaded again", extra={"fields": {"version": number, "models": models}}
                )
            except InferenceServerException as error:
                # Doubled after every failure, so that a hopeless model is tried ever less often.
                length = min(max(2 * length, 1.0), LONGEST_PAUSE)
                self.pause = (time.monotonic() + length, length)
                why = str(error.message())
                log.error(
                    "models cannot be loaded again",
                    extra={"fields": {"version": number, "why": why}},
                )

    async def load(self, models: Collection[str]) -> None:
        """Load models; the ensembles come last. Raises NotReadyError, InferenceServerException
        where one fails.
        """
        parts = [model for model in models if not model.startswith("retrieve_")]
        for together in (parts, [model for model in models if model not in parts]):
            seconds = self.settings.load_seconds
            loads = [
                self.client.load_model(model, headers=self.secret, client_timeout=seconds)
                for model in together
            ]
            for failure in await asyncio.gather(*loads, return_exceptions=True):
                if isinstance(failure, InferenceServerException):
                    raise await self._cause(failure)
                if failure is not None:
                    raise failure

    async def unload(self, models: Iterable[str]) -> None:
        """Unload models, where this router manages them. Raises NotReadyError,
        InferenceServerException.
        """
        if not self.settings.manages_models:
            return
        for model in sorted(
            models, reverse=True
        ):  # the ensembles, retrieve_*, before what they are made of
            try:
                await self.client.unload_model(
                    model, headers=self.secret, client_timeout=CALL_SECONDS
                )
            except InferenceServerException as error:
                raise await self._cause(error) from None

    async def warm_up(self, package: Package) -> None:
        """Ask every model as requests will.

        Raises ValueError on an answer that cannot be right, NotReadyError where Triton is gone.
        """
        n = len(package.item_ids)
        depth = min(package.serving["k_ann"], max(n - 1, 1))
        # The smallest request, and the largest that the version takes.
        single = dict.fromkeys(package.item_ids[:1])
        many = dict.fromkeys(package.item_ids[: package.serving["triggers"]])
        # /v1/similar asks the head itself, /v1/retrieve its ensemble: both have to work.
        for prefix, score in (("", "similarity"), ("retrieve_", "score")):
            models = package.models_of(prefix, package.channel_names)
            for triggers in [many] + [single] * WARM_UPS:
                inputs = inputs_of(package, triggers, [], depth)
                answers = await ask(
                    self.client, models, inputs, score, Deadline(1000 * WARM_UP_SECONDS)
                )
                for channel, answer in answers.items():
                    if isinstance(answer, HeadFailure):
                        # Only while Triton is up and has room is this the fault of the version.
                        if answer.reason == "busy" or not await self._is_up():
                            raise NotReadyError(answer.detail)
                        raise ValueError(
                            f"warm-up of {models[channel]}: {answer.reason}: {answer.detail}"
                        )
                    # A version knows its own items: they must retrieve something, and are not cold.
                    if (n > 1 and not len(answer.item)) or (answer.item >= n).any() or answer.cold:
                        raise ValueError(
                            f"warm-up of {models[channel]}: a known item gave {len(answer.item)} "
                            f"candidates"
                        )

    async def _is_ready(self, model: str) -> bool:
        try:
            return bool(await self.client.is_model_ready(model, client_timeout=CALL_SECONDS))
        except InferenceServerException as error:
            if _is_silence(error):
                raise NotReadyError(str(error.message())) from None
            return False

    async def _is_up(self) -> bool:
        try:
            return bool(await self.client.is_server_live(client_timeout=1.0))
        except InferenceServerException:
            return False

    async def _cause(self, error: InferenceServerException) -> Exception:
        """NotReadyError where the server is gone or hangs, the error itself where it refused."""
        silent = _is_silence(error) and not await self._is_up()
        return NotReadyError(str(error.message())) if silent else error


def _is_silence(error: InferenceServerException) -> bool:
    """No answer came: the server is gone, or hangs. (A model that fails to load is UNAVAILABLE as
    well.)
    """
    silent = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    return error.status() in map(str, silent) and "failed to load" not in str(error.message())
