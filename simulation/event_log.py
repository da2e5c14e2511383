"""What happened, hour by hour, as the tables of the log (mtmh/exposures/records.py), with simulated
times."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mtmh.data.synthetic import timestamps
from mtmh.experiment.arms import Arm
from mtmh.exposures.records import ENGAGEMENTS, EXPOSURES
from mtmh.exposures.tables import REJECTED, LogTables, with_day
from mtmh.head_settings import quotas_text
from simulation.counter_rng import uniform
from simulation.population import Population
from simulation.response import Page, Response
from simulation.server import Slates

READING = 1.5  # seconds that a user looks at an item without opening it
SECONDS = 86_400  # of a day
Columns = dict[str, np.ndarray]


@dataclass
class EventLog:
    """Columns of what is not written yet. Users, items and requests are numbers until then."""

    people: Population
    arms: Sequence[Arm]
    arm_of: np.ndarray  # int [users]
    list_length: int  # candidates that a request asks for
    seed: int
    impressions: list[Columns] = field(default_factory=list)
    actions: list[Columns] = field(default_factory=list)
    channels: list[str] = field(default_factory=list)  # by the number that a row has for its own

    def visits(
        self, page: Page, list_position: np.ndarray, slates: Slates, response: Response
    ) -> None:
        """Note the answers of one hour as far as they were shown, and what users did with them."""
        start = (
            self.people.start
            + (page.hour + uniform(self.seed, "minute", page.user, page.hour)) / 24
        )
        # An exposure a shown item, with what the answer said of it.
        row, position = np.nonzero(page.item >= 0)
        rank = list_position[row, position]
        self.channels += [name for name in slates.channels if name not in self.channels]
        number = np.array([self.channels.index(name) for name in slates.channels], np.int8)
        self.impressions.append(
            {
                "user": page.user[row],
                "hour": np.full(len(row), page.hour),
                "day": start[row],
                "version": slates.version[row],
                "degraded": slates.degraded[row],
                "item": page.item[row, position],
                "position": position + 1,
                "head": number[slates.head[row, rank]],
                **{
                    name: getattr(slates, name)[row, rank]
                    for name in ("head_rank", "score", "trigger")
                },
            }
        )
        # A user reads from the top: an action comes after the time spent above it.
        row, position = np.nonzero(response.engaged | response.glanced)
        before = np.cumsum(response.dwell + READING, axis=1) - response.dwell
        self.actions.append(
            {
                "user": page.user[row],
                "hour": np.full(len(row), page.hour),
                "day": start[row] + before[row, position] / SECONDS,
                "item": page.item[row, position],
                "value": response.engaged[row, position].astype(float),
                "dwell": response.dwell[row, position],
            }
        )

    def elsewhere(
        self, user: np.ndarray, item: np.ndarray, day: np.ndarray, dwell: np.ndarray
    ) -> None:
        """Note engagements beside the lists."""
        columns = {
            "user": user,
            "hour": np.full(len(user), -1),
            "day": day,
            "item": item,
            "dwell": dwell,
        }
        self.actions.append({**columns, "value": np.ones(len(user))})

    def tables(self) -> LogTables:
        """Everything noted since the last call."""
        tables = LogTables(self._exposures(), self._engagements(), REJECTED.empty_table())
        self.impressions, self.actions = [], []
        return tables

    def _exposures(self) -> pa.Table:
        if not self.impressions:
            return EXPOSURES.empty_table()
        rows = _joined(self.impressions)
        count, arm = len(rows["user"]), self.arm_of[rows["user"]]
        # Nobody here names quotas of their own: used are always the arm's.
        alpha = pa.array([arm.alpha for arm in self.arms], pa.float64()).take(pa.array(arm))
        named = [quotas_text(arm.quotas) if arm.quotas else None for arm in self.arms]
        quotas = pa.array(named, pa.string()).take(pa.array(arm))
        request_id, user_id = self._request_ids(rows)
        columns = {
            # A user asks once an hour at most, so the request's id names the answer, too.
            "exposure_id": request_id,
            "request_id": request_id,
            "timestamp": timestamps(rows["day"]),
            "user_id": user_id,
            "arm": pa.array([arm.name for arm in self.arms]).take(pa.array(arm)),
            "model_version": pa.array(rows["version"]),
            "alpha": alpha,
            "arm_alpha": alpha,
            "own_alpha": np.zeros(count, bool),
            "quotas": quotas,
            "arm_quotas": quotas,
            "degraded": rows["degraded"],
            "k": pa.repeat(pa.scalar(self.list_length, pa.int32()), count),
            "surface": pa.repeat("retrieve", count),
            "log_version": pa.repeat(pa.scalar(2, pa.int32()), count),
            "item_id": self._item_ids(rows["item"]),
            "head": pa.array(self.channels).take(pa.array(rows["head"])),
            "head_rank": rows["head_rank"],
            "score": rows["score"].astype(np.float64),
            "trigger_id": self._item_ids(rows["trigger"]),
            "position": rows["position"].astype(np.int32),
        }
        return with_day(pa.table(columns), EXPOSURES)

    def _engagements(self) -> pa.Table:
        if not self.actions:
            return ENGAGEMENTS.empty_table()
        rows = _joined(self.actions)
        # In order of time: an hour's visits and what happened elsewhere come one after the other.
        order = np.argsort(rows["day"], kind="stable")
        rows = {name: column[order] for name, column in rows.items()}
        engaged = rows["value"] > 0
        request_id, user_id = self._request_ids(rows)
        columns = {
            "event_id": pa.nulls(len(engaged), pa.string()),
            "call_id": pa.nulls(len(engaged), pa.string()),
            "exposure_id": request_id,
            "request_id": request_id,
            "timestamp": timestamps(rows["day"]),
            "user_id": user_id,
            "item_id": self._item_ids(rows["item"]),
            "event": pa.array(["view", "engage"]).take(pa.array(engaged.astype(np.int8))),
            "value": rows["value"],
            "dwell_seconds": rows["dwell"],
            "log_version": pa.repeat(pa.scalar(2, pa.int32()), len(engaged)),
        }
        return with_day(pa.table(columns), ENGAGEMENTS)

    def _request_ids(self, rows: Columns) -> tuple[pa.Array, pa.Array]:
        """Ids of the requests and of their users; a user makes one an hour at most, and none beside
        the lists."""
        user_id = self.people.user_ids.take(pa.array(rows["user"]))
        hour = pa.array(rows["hour"], mask=rows["hour"] < 0).cast(pa.string())
        hour = pc.utf8_lpad(hour, 4, "0")
        return pc.binary_join_element_wise(f"s{self.seed}", hour, user_id, "-"), user_id

    def _item_ids(self, items: np.ndarray) -> pa.Array:
        return self.people.item_table["item_id"].combine_chunks().take(pa.array(items))


def _joined(parts: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
