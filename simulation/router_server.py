"""The real router, over HTTP, as the server of the living platform.

The router must run the same experiment: its arms and its salt (`experiment` in its configuration); each answer is
checked for it. Whatever it logs itself has the times of this machine's clock.
"""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import numpy as np
import pyarrow as pa

from mtmh.errors import UserError
from mtmh.experiment.arms import Arm
from mtmh.heads import HEADS
from mtmh.ids import Ids
from mtmh.ragged import Ragged
from mtmh.retrieval.intake import Intake
from mtmh.retrieval.refresh import refresh
from simulation.local_server import numbers, rows_of
from simulation.server import Slates

BATCH, BATCHES = 16, 2  # requests in one call, calls at a time
TRIES, PAUSE = 8, 0.5  # seconds, doubled from one try to the next
TAKE_OVER = 120.0  # seconds until a router must have taken over a version
TakeIn = Callable[[pa.Table], str]


class ThroughRouter:
    """Asks /v1/retrieve/batch, with the user's id and triggers; a context, which hangs up at its end.

    Arguments: `url`; the population's `user_ids` and item table, row = number; `known`, the item_ids of the version
    that serves; `triggers`, how many it takes; `arms`, each with its alpha; `token`, where the router asks for one;
    `take_in`, which adds items to what is served and returns the number of the version that the router then has to
    take over (without it no item is added).
    """

    def __init__(
        self,
        url: str,
        user_ids: pa.Array,
        items: pa.Table,
        known: pa.ChunkedArray,
        triggers: int,
        arms: Sequence[Arm],
        token: str | None = None,
        take_in: TakeIn | None = None,
    ) -> None:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self.http = httpx.Client(base_url=url, headers=headers, timeout=60.0)
        self.users, self.items = user_ids.to_pylist(), items
        self.item_ids = Ids(items["item_id"])
        self.row_of = numbers(known, items["item_id"])[1]
        self.names = self.item_ids.values.to_pylist()
        self.triggers, self.arms, self.take_in = triggers, arms, take_in

    def answer(self, users: np.ndarray, triggers: Ragged, arms: np.ndarray, k: int) -> Slates:
        """See simulation.server.Server. Raises UserError where the router is not of this experiment."""
        indptr, items = self._asked(triggers)
        asked = [
            {"user_id": self.users[user], "triggers": [self.names[item] for item in items[start:end]], "k": k}
            for user, start, end in zip(users, indptr[:-1], indptr[1:], strict=True)
        ]
        parts = [asked[start : start + BATCH] for start in range(0, len(asked), BATCH)]
        with ThreadPoolExecutor(BATCHES) as threads:
            answers = [answer for part in threads.map(self._ask, parts) for answer in part]
        self._check(answers, arms)
        return self._slates(answers, k)

    def refresh(self, items: int) -> None:
        """Take in those of the first `items` that are not served yet, and wait until the router serves them."""
        new = np.flatnonzero(self.row_of[:items] < 0)
        if self.take_in is None or not len(new):
            return
        version = self.take_in(self.items.take(pa.array(new)))
        self.row_of[new] = self.row_of.max() + 1 + np.arange(len(new))
        end = time.monotonic() + TAKE_OVER
        while (serving := self.http.get("/readyz").json().get("model_version")) != version:
            if time.monotonic() > end:
                raise UserError(f"the router still serves version {serving}, not {version}: is its store another?")
            time.sleep(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def _asked(self, triggers: Ragged) -> Ragged:
        """The triggers that are served, as numbers of the world's."""
        item_of = np.zeros(self.row_of.max() + 1, np.int32)
        item_of[self.row_of[self.row_of >= 0]] = np.flatnonzero(self.row_of >= 0)
        rows = rows_of(triggers, self.row_of, self.triggers)
        return Ragged(rows.indptr, item_of[rows.values])

    def _ask(self, requests: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """An answer for each; what is turned away for a moment is asked again."""
        answers: list[dict[str, Any] | None] = [None] * len(requests)
        why = ""
        for attempt in range(TRIES):
            left = [place for place, answer in enumerate(answers) if answer is None]
            try:
                response = self.http.post("/v1/retrieve/batch", json={"requests": [requests[place] for place in left]})
            except httpx.TransportError as error:
                raise UserError(
                    f"no router answers at {self.http.base_url} ({error}): start one, mtmh serve."
                ) from None
            told = response.json()
            if response.is_success:
                for place, answer in zip(left, told["answers"], strict=True):
                    if "error" not in answer:
                        answers[place] = answer
                    else:
                        why = _passing(answer["status"], answer["error"])
            else:
                why = _passing(response.status_code, told["error"])
            done = [answer for answer in answers if answer is not None]
            if len(done) == len(answers):
                return done
            time.sleep(PAUSE * 2**attempt)
        raise UserError(f"the router turned {len(left)} requests away {TRIES} times: {why}")

    def _check(self, answers: list[dict[str, Any]], arms: np.ndarray) -> None:
        for answer, arm in zip(answers, arms.tolist(), strict=True):
            wanted = self.arms[arm]
            if answer["arm"] != wanted.name or answer["alpha"] != wanted.alpha:
                raise UserError(
                    f"the router has a user in arm {answer['arm']!r} with alpha {answer['alpha']:g}, here it is "
                    f"{wanted.name!r} with {wanted.alpha:g}: give the router this experiment's salt and arms."
                )

    def _slates(self, answers: list[dict[str, Any]], k: int) -> Slates:
        counts = np.array([len(answer["candidates"]) for answer in answers])
        shown = [one for answer in answers for one in answer["candidates"]]
        cells = Ragged.of_lengths(counts, np.arange(len(shown)))
        row, place = cells.row_of, cells.place_of

        def column(values: np.ndarray, fill: int, kind: type) -> np.ndarray:
            table: np.ndarray = np.full((len(answers), k), fill, kind)
            table[row, place] = values
            return table

        return Slates(
            item=column(self._numbers([one["item_id"] for one in shown]), -1, np.int32),
            head=column(np.array([HEADS.index(one["head"]) for one in shown], np.int8), -1, np.int8),
            head_rank=column(np.array([one["head_rank"] for one in shown], np.int32), 0, np.int32),
            score=column(np.array([one["score"] for one in shown], np.float32), 0, np.float32),
            trigger=column(self._numbers([one["trigger_id"] for one in shown]), -1, np.int32),
            degraded=np.array([answer["degraded"] for answer in answers]),
            version=np.array([answer["model_version"] for answer in answers]),
        )

    def _numbers(self, item_ids: list[str]) -> np.ndarray:
        numbers = self.item_ids.rows(item_ids)
        if (numbers < 0).any():
            alien = item_ids[int((numbers < 0).argmax())]
            raise UserError(f"the router answers with item {alien!r}, which is not of this world: it serves another.")
        return numbers


def _passing(status: int, error: str) -> str:
    """What was said by a router that may answer in a moment. Raises UserError for everything else."""
    if status not in (429, 503):
        raise UserError(f"the router refuses a request: {status}: {error}")
    return f"{status}: {error}"


@contextmanager
def into_store(run: Path, store: Path) -> Iterator[TakeIn]:
    """Adds items to the version of `run`, which serves from `store`, and promotes what comes of it.

    The versions that it makes stay in the store as those of `mtmh refresh` do.
    """
    from serving.triton import store as packages
    from serving.triton.refreshed import install_refresh, retire_refreshes

    with tempfile.TemporaryDirectory(prefix="mtmh-simulated-") as folder:
        root, versions = Path(folder), [run]
        intake = Intake.load(run, cache=root / "texts")

        def take_in(items: pa.Table) -> str:
            out = root / f"version-{len(versions)}"
            refresh(versions[-1], items, out, intake)
            number = install_refresh(out, store)
            packages.promote(store, number)
            retire_refreshes(store)
            versions.append(out)
            return number

        yield take_in
