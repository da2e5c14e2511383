"""Which versions take traffic: the store's champion and the arms', loaded in Triton, warmed up, swapped, drained."""

import asyncio
import json
import logging
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from mtmh.errors import UserError
from mtmh.experiment.arms import Arm, assign
from serving.router.heads import Gone, ask, inputs_of
from serving.router.history import Histories
from serving.router.limits import Deadline
from serving.router.metrics import Loaded, Metrics
from serving.router.package import Package
from serving.router.settings import Experiment, Triton
from serving.triton import store

WARM_UPS = 3
INDEX_SECONDS = 2.0  # in which Triton lists its models; one that hangs must not hold the watch
LONGEST_PAUSE = 30.0  # seconds between two tries to load again what Triton lost

log = logging.getLogger("mtmh.router")


class NotReadyError(Exception):
    """Triton does not answer: no fault of the version."""


@dataclass(eq=False)
class Live:
    """A version in use, and how many requests are using it."""

    package: Package
    in_flight: int = 0

    @contextmanager
    def used(self) -> Iterator[Package]:
        """The version stays loaded while this is open."""
        self.in_flight += 1
        try:
            yield self.package
        finally:
            self.in_flight -= 1


@dataclass(frozen=True)
class Serving:
    """What requests see, replaced as a whole: a request takes one version and asks it alone."""

    champion: str
    live: dict[str, Live]
    experiment: Experiment

    def choose(self, user_id: str | None) -> tuple[Live, Arm | None]:
        """The version for a user, and the arm; None for nobody in particular, and where there is no experiment."""
        arms = self.experiment.arms
        if user_id is None or not arms:
            return self.live[self.champion], None
        arm = assign(user_id, self.experiment.salt, arms)
        return self.live[arm.version or self.champion], arm


@dataclass
class Versions:
    """Watches the store and Triton. `serving` is None until the first version is ready."""

    place: Path
    client: InferenceServerClient
    settings: Triton
    histories: Histories
    metrics: Metrics
    secret: dict[str, str]  # metadata of the calls that manage models
    serving: Serving | None = None
    reachable: bool = False
    refused: dict[str, str] = field(default_factory=dict)  # version -> why
    stamps: dict[str, object] = field(default_factory=dict)  # of what was refused: not tried again until it changes
    draining: dict[str, tuple[float, Live | None]] = field(default_factory=dict)  # version -> unloaded when, users
    pause: tuple[float, float] = (0.0, 0.0)  # until when lost models are not loaded again, how long it was

    @property
    def ready(self) -> bool:
        """Whether a version takes traffic and Triton answers."""
        return self.serving is not None and self.reachable

    async def look(self, experiment: Experiment) -> None:
        """One round: what Triton lost is loaded again, what is new is taken over, what is old is unloaded."""
        try:
            ready = await self._ready_models()
            self.reachable = True
            await self._restore(ready)
            await self._take_over(experiment, ready)
            await self._unload(ready)
            for one in self.serving.live.values() if self.serving else ():
                await self.histories.open(one.package.place)
        except NotReadyError as error:
            if self.reachable or self.serving is None:
                log.warning("triton is not ready", extra={"told": {"why": str(error)}})
            self.reachable = await self._answers()
        self.metrics.ready.set(self.ready)

    async def _take_over(self, experiment: Experiment, ready: set[str]) -> None:
        old = self.serving
        live = dict(old.live) if old else {}
        try:
            champion = await asyncio.to_thread(store.champion, self.place)
        except (UserError, ValueError, OSError) as error:
            self._refuse("champion", str(error), str(error))
            champion = old.champion if old else ""
        else:
            self.refused.pop("champion", None)
        arms = experiment.arms or ()
        for number in dict.fromkeys([champion, *(arm.version for arm in arms if arm.version)]):
            if number and number not in live and (found := await self._take(number, ready)):
                live[number] = found
        if champion not in live:
            if old is None:
                return
            champion = old.champion
        if not all(arm.version in live for arm in arms if arm.version):
            experiment = old.experiment if old else Experiment()
        wanted = {champion, *(arm.version for arm in experiment.arms or () if arm.version)}
        new = Serving(champion, {number: one for number, one in live.items() if number in wanted}, experiment)
        if new != old:
            self._publish(old, new)

    def _publish(self, old: Serving | None, new: Serving) -> None:
        self.serving = new
        for number, one in (old.live if old else {}).items():
            if number not in new.live:
                self.draining[number] = (time.monotonic() + self.settings.drain_seconds, one)
        self.metrics.loaded = {number: _told(one.package, number == new.champion) for number, one in new.live.items()}
        if old is None or old.champion != new.champion:
            self.metrics.swaps.inc()
        arms = [arm.name for arm in new.experiment.arms or ()]
        log.info("serving", extra={"told": {"champion": new.champion, "versions": list(new.live), "arms": arms}})

    async def _take(self, number: str, ready: set[str]) -> Live | None:
        """The version, loaded and warm; None where it failed, now or before, or is not ready yet."""
        if number in self.stamps and self.stamps[number] == await asyncio.to_thread(self._stamp, number):
            return None
        _, known = self.draining.pop(number, (0.0, None))
        if known is not None and all(model in ready for model in known.package.models):
            return known
        start = time.perf_counter()
        try:
            if not self.settings.manages_models:
                manifest = json.loads((self.place / "versions" / number / "manifest.json").read_text())
                if missing := sorted(set(manifest["models"]) - ready):
                    self.refused[number] = f"waiting for somebody to load {', '.join(missing)}"
                    return None
            await asyncio.to_thread(store.verify, self.place, number)
            package = await asyncio.to_thread(Package.load, self.place / "versions" / number)
            # Meanwhile, and whether or not it opens: a version can serve without histories.
            opening = asyncio.create_task(self.histories.open(package.place))
            await self._load(package.models, ready)
            await self._warm_up(package)
            await opening
        except (NotReadyError, asyncio.CancelledError):
            raise
        except Exception as error:  # whatever is wrong with a version, the one before it goes on
            why = str(error) or type(error).__name__
            self._refuse(number, why, await asyncio.to_thread(self._stamp, number))
            self.metrics.refused.inc()
            await self._drop([model for model in await self._ready_models() if model.endswith(f"_{number}")])
            return None
        self.refused.pop(number, None)
        self.stamps.pop(number, None)
        seconds = round(time.perf_counter() - start, 2)
        log.info("version loaded", extra={"told": {"version": number, "seconds": seconds}})
        return Live(package)

    def _refuse(self, number: str, why: str, stamp: object) -> None:
        if self.stamps.get(number) != stamp:
            log.error("version refused", extra={"told": {"version": number, "why": why}})
        self.refused[number], self.stamps[number] = why, stamp

    async def _load(self, models: list[str], ready: set[str]) -> None:
        missing = [model for model in models if model not in ready and self.settings.manages_models]
        parts = [model for model in missing if not model.startswith("retrieve_")]
        for together in (parts, [model for model in missing if model not in parts]):  # ensembles come last
            loads = [
                self.client.load_model(model, headers=self.secret, client_timeout=self.settings.load_seconds)
                for model in together
            ]
            for failure in await asyncio.gather(*loads, return_exceptions=True):
                if isinstance(failure, InferenceServerException):
                    raise _translated(failure)
                if failure is not None:
                    raise failure

    async def _warm_up(self, package: Package) -> None:
        """Ask every model as requests will; raises ValueError on an answer that cannot be right."""
        n = len(package.item_ids)
        depth = min(package.serving["k_ann"], max(n - 1, 1))
        one = dict.fromkeys(package.item_ids[:1])
        many = dict.fromkeys(package.item_ids[: package.serving["triggers"]])
        for prefix, score in (("", "similarity"), ("retrieve_", "score")):
            models = {head: f"{prefix}{head}_{package.number}" for head in package.heads}
            for triggers in [many] + [one] * WARM_UPS:
                inputs = inputs_of(package, triggers, [], depth)
                answers = await ask(self.client, models, inputs, score, Deadline(1000 * self.settings.load_seconds))
                for head, found in answers.items():
                    if isinstance(found, Gone):
                        if found.reason == "gone" and not await self._is_up():
                            raise NotReadyError(found.detail)
                        raise ValueError(f"warm-up of {models[head]}: {found.reason}: {found.detail}")
                    if (n > 1 and not len(found.item)) or (found.item >= n).any() or found.cold:
                        raise ValueError(f"warm-up of {models[head]}: a known item gave {len(found.item)} candidates")

    async def _restore(self, ready: set[str]) -> None:
        """Load again what a live version lacks: Triton came back without it, or somebody took it away."""
        until, length = self.pause
        if self.serving is None or time.monotonic() < until or not self.settings.manages_models:
            return
        for number, one in self.serving.live.items():
            missing = [model for model in one.package.models if model not in ready]
            if not missing:
                continue
            try:
                await self._load(one.package.models, ready)
                ready.update(missing)
                self.pause = (0.0, 0.0)
                log.warning("models loaded again", extra={"told": {"version": number, "models": missing}})
            except InferenceServerException as error:
                length = min(max(2 * length, 1.0), LONGEST_PAUSE)
                self.pause = (time.monotonic() + length, length)
                why = str(error.message())
                log.error("models cannot be loaded again", extra={"told": {"version": number, "why": why}})

    async def _unload(self, ready: set[str]) -> None:
        """Versions that nobody uses any more, and those that an earlier router left behind."""
        if not self.settings.manages_models or self.serving is None:
            return
        loaded: dict[str, list[str]] = {}
        for model in ready:
            if found := re.fullmatch(r"(?:retrieve_)?(?:engagement|relevance|preranker)_(\d+)", model):
                loaded.setdefault(found[1], []).append(model)
        for number, models in loaded.items():
            if number in self.serving.live:
                continue
            then, one = self.draining.setdefault(number, (time.monotonic() + self.settings.drain_seconds, None))
            if time.monotonic() < then or (one is not None and one.in_flight):
                continue
            await self._drop(models)
            log.info("version unloaded", extra={"told": {"version": number}})
        self.draining = {number: one for number, one in self.draining.items() if number in loaded}
        self.histories.close([one.package.place for one in self.serving.live.values()])

    async def _drop(self, models: list[str]) -> None:
        if not self.settings.manages_models:
            return
        for model in sorted(models, reverse=True):  # the ensembles, retrieve_*, before what they are made of
            try:
                await self.client.unload_model(model, headers=self.secret, client_timeout=self.settings.load_seconds)
            except InferenceServerException as error:
                raise _translated(error) from None

    async def _answers(self) -> bool:
        """Whether all models that take traffic are ready, though Triton cannot list its repository now."""
        live = self.serving.live.values() if self.serving else ()
        models = [model for version in live for model in version.package.models]
        return bool(models) and await self._ready_of(models) == set(models)

    async def _ready_of(self, models: Iterable[str]) -> set[str]:
        """Those of `models` that are ready, by Triton's health interface, which is open to everybody."""

        async def ready(model: str) -> bool:
            try:
                return bool(await self.client.is_model_ready(model, client_timeout=INDEX_SECONDS))
            except InferenceServerException:
                return False

        models = list(models)
        answers = await asyncio.gather(*map(ready, models))
        return {model for model, is_ready in zip(models, answers, strict=True) if is_ready}

    async def _ready_models(self) -> set[str]:
        """What is loaded. Where somebody else manages the models, Triton lists them to that one alone."""
        if not self.settings.manages_models:
            if not await self._is_up():
                raise NotReadyError("Triton does not answer")
            folders = await asyncio.to_thread(lambda: list((self.place / "models").iterdir()))
            return await self._ready_of(folder.name for folder in folders)
        try:
            index = await self.client.get_model_repository_index(headers=self.secret, client_timeout=INDEX_SECONDS)
        except InferenceServerException as error:
            raise NotReadyError(str(error.message())) from None
        return {model.name for model in index.models if model.state == "READY"}

    async def _is_up(self) -> bool:
        try:
            return bool(await self.client.is_server_live(client_timeout=1.0))
        except InferenceServerException:
            return False

    def _stamp(self, number: str) -> object:
        """Changes when a file of the version does, or the champion is named again."""
        folders = [self.place / "versions" / number, *(self.place / "models").glob(f"*_{number}")]
        files = [self.place / "champion", *(file for folder in folders for file in sorted(folder.rglob("*")))]
        return tuple(
            (str(file), found.st_mtime_ns, found.st_size) for file in files if file.is_file() and (found := file.stat())
        )


def _told(package: Package, champion: bool) -> Loaded:
    return Loaded(champion, len(package.item_ids), package.packaged, package.newest_item)


def _translated(error: InferenceServerException) -> Exception:
    """NotReadyError where the server is gone, the error itself where it refused."""
    gone = error.status() == str(grpc.StatusCode.UNAVAILABLE) and "failed to load" not in str(error.message())
    return NotReadyError(str(error.message())) if gone else error
