"""What a check of an experiment's log looks at, and what it finds."""

from dataclasses import dataclass
from datetime import date, datetime

import ibis.expr.types as ir

from mtmh.experiment.catalog import ItemTable, UserTable
from mtmh.experiment.folder import ExperimentFolder
from mtmh.exposures.read import LogRelations


@dataclass(frozen=True)
class LogFinding:
    """One check of the log; `count` is 0 and `example` None where all is well."""

    name: str
    title: str
    count: int
    of: str  # what is counted: exposures, engagements, answers, users, days ..
    means: str  # what became of them
    example: str | None


@dataclass(frozen=True)
class CheckInput:
    """What the checks look at. `lists` and `impressions` begin a day before `first`."""

    folder: ExperimentFolder
    log: LogRelations
    now: datetime
    first: date
    last: date
    users: UserTable
    catalog: ItemTable
    history: ir.Table  # user_id, item_id, day, value
    requests: ir.Table  # relations.requests, from the experiment's first day to `last`
    own_alpha: ir.Table  # of these, in one arm, what relations.with_own_alpha gives
    lists: ir.Table
    impressions: ir.Table
    repeats: ir.Table
    events: ir.Table  # relations.events, from the experiment's first day to `last`
    attributed: ir.Table  # relations.attributed, of the events from a day before `first` on

    @property
    def arms(self) -> list[str]:
        """The names of the experiment's arms."""
        return [arm.name for arm in self.folder.experiment.arms]


def count_rows(
    name: str, title: str, of: str, means: str, bad: ir.Table, weight: str | None = None
) -> LogFinding:
    """How many rows `bad` has, or what its column `weight` sums up to, and the first of them."""
    total = bad[weight].sum() if weight else bad.count()
    count = int(total.to_pyarrow().as_py() or 0)
    example = None
    if count:
        rows = bad.drop(weight) if weight else bad
        row = rows.order_by(rows.columns).limit(1).to_pyarrow().to_pylist()[0]
        example = ", ".join(f"{key} {value}" for key, value in row.items() if value is not None)
    return LogFinding(name, title, count, of, means, example)
