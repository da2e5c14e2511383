"""Heads, channels and quotas as people name them: `train.heads`, `retrieval.channels`, `quotas`."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mtmh.restriction import Restriction

MOST_HEADS = 32  # of a model
ROUNDING = 1e-6  # quotas that are this near to 100 in all are 100
# No head's: a version, a table, an answer's times or Triton hold something else under these.
TAKEN_NAMES = (
    *("content", "history", "merged", "popularity", "itemknn"),
    *("preranker", "merge", "log", "total"),
)


# It names files and columns (<name>.faiss, <name>_head), so it is of few letters.
NAME = Field(pattern="^[a-z][a-z0-9_]{0,30}$")


def _check_name(name: str, of: str) -> None:
    if name in TAKEN_NAMES or name.startswith("retrieve_") or "_head" in name:
        raise ValueError(
            f"{name!r} is no name for a {of}: a version or a table holds something else under it."
            " Choose another one."
        )


class HeadSettings(BaseModel):
    """One head of the model: its name, and what it minimizes, l_e * L_e + l_r * L_r."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, NAME]
    l_e: Annotated[float, Field(ge=0.0)] = 0.0  # weight of the co-engagement loss
    l_r: Annotated[float, Field(ge=0.0)] = 0.0  # weight of the distillation

    @model_validator(mode="after")
    def _check(self) -> "HeadSettings":
        _check_name(self.name, "head")
        if self.l_e == self.l_r == 0:
            raise ValueError(
                f"the weights of head {self.name!r} are all 0, so it would learn nothing. Write"
                " l_e: 1, l_r: 1, or both."
            )
        return self


class ChannelSettings(BaseModel):
    """A source of candidates: the head whose index it has, and its percent of a merged list.

    `name` is the head's where none is written. `items`: the only ones that it gives, as
    `Restriction` reads them; None: all. A channel of some items has a name of its own.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    head: str
    quota: Annotated[int, Field(ge=0, le=100)]
    name: Annotated[str, NAME]
    items: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _name(cls, values: Any) -> Any:
        if isinstance(values, dict) and "head" in values:
            return {"name": values["head"], **values}
        return values

    @model_validator(mode="after")
    def _check(self) -> "ChannelSettings":
        _check_name(self.name, "channel")
        if self.items is None:
            return self
        Restriction.parse(self.items)
        # A head's name stands for all of its items: in alpha, in the gate, in a table.
        if self.name == self.head:
            raise ValueError(
                f"the channel of {self.head!r} with items {self.items!r} has the head's name, which"
                f" stands for all items. Give it another one, such as name: {self.head}_some."
            )
        return self


def _check_heads(heads: list[HeadSettings]) -> list[HeadSettings]:
    names = [head.name for head in heads]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"{' and '.join(map(repr, twice))} is there more than once. Give each head a name of"
            " its own."
        )
    return heads


def _check_channels(channels: list[ChannelSettings]) -> list[ChannelSettings]:
    names = [channel.name for channel in channels]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"{' and '.join(map(repr, twice))} is there more than once. Give each channel a name of"
            " its own, such as {head: relevance, quota: 20, name: relevance_news, items:"
            " 'topic:news'}."
        )
    total = sum(channel.quota for channel in channels)
    if channels and total != 100:
        raise ValueError(
            f"the quotas are {total} in all. They are percent of a list: write some that are 100"
            " in all."
        )
    return channels


def _check_quotas(quotas: dict[str, float]) -> dict[str, float]:
    total = sum(quotas.values())
    if abs(total - 100) > ROUNDING:
        raise ValueError(
            f"they are {total:g} in all. Quotas are percent of a list: write some that are 100 in"
            " all."
        )
    return quotas


def quotas_text(quotas: Mapping[str, float]) -> str:
    """Quotas in one form, however they were written: equal texts mean equal quotas.

    >>> quotas_text({"relevance": 70.0, "engagement": 30, "mixed": 0})
    'engagement 30, relevance 70'
    """
    return ", ".join(f"{name} {quota:g}" for name, quota in sorted(quotas.items()) if quota)


# Channel -> its percent of a merged list, as a request or an arm names them.
QuotaTable = Annotated[
    dict[str, Annotated[float, Field(ge=0.0, le=100.0)]],
    Field(max_length=MOST_HEADS),
    AfterValidator(_check_quotas),
]
# Empty: the heads of `train.objective`; and a channel each of these, by `retrieval.alpha`.
HeadList = Annotated[list[HeadSettings], Field(max_length=MOST_HEADS), AfterValidator(_check_heads)]
ChannelList = Annotated[
    list[ChannelSettings], Field(max_length=MOST_HEADS), AfterValidator(_check_channels)
]
