"""Heads and channels as a configuration names them: `train.heads`, `retrieval.channels`."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

MOST_HEADS = 32  # of a model
TAKEN_NAMES = ("content", "history", "merged", "popularity", "itemknn")  # no head's


class HeadSettings(BaseModel):
    """One head of the model: its name, and what it minimizes, l_e * L_e + l_r * L_r."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    # It names files and columns (<name>.faiss, <name>_head), so it is of few letters.
    name: Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,30}$")]
    l_e: Annotated[float, Field(ge=0.0)] = 0.0  # weight of the co-engagement loss
    l_r: Annotated[float, Field(ge=0.0)] = 0.0  # weight of the distillation

    @model_validator(mode="after")
    def _check(self) -> "HeadSettings":
        if self.name in TAKEN_NAMES or "_head" in self.name:
            raise ValueError(
                f"{self.name!r} is no name for a head: a version or a table holds something else"
                " under it. Choose another one."
            )
        if self.l_e == self.l_r == 0:
            raise ValueError(
                f"the weights of head {self.name!r} are all 0, so it would learn nothing. Write"
                " l_e: 1, l_r: 1, or both."
            )
        return self


class ChannelSettings(BaseModel):
    """A source of candidates: the head whose index it has, and its percent of a merged list."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    head: str
    quota: Annotated[int, Field(ge=0, le=100)]


def _check_heads(heads: list[HeadSettings]) -> list[HeadSettings]:
    names = [head.name for head in heads]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(
            f"{' and '.join(map(repr, twice))} is there more than once. Give each head a name of"
            " its own."
        )
    return heads


def _check_channels(channels: list[ChannelSettings]) -> list[ChannelSettings]:
    heads = [channel.head for channel in channels]
    if twice := sorted({head for head in heads if heads.count(head) > 1}):
        raise ValueError(
            f"{' and '.join(map(repr, twice))} is there more than once. A head has one channel:"
            " leave the other out."
        )
    total = sum(channel.quota for channel in channels)
    if channels and total != 100:
        raise ValueError(
            f"the quotas are {total} in all. They are percent of a list: write some that are 100"
            " in all."
        )
    return channels


# Empty: the heads of `train.objective`; and a channel each of these, by `retrieval.alpha`.
HeadList = Annotated[list[HeadSettings], Field(max_length=MOST_HEADS), AfterValidator(_check_heads)]
ChannelList = Annotated[list[ChannelSettings], AfterValidator(_check_channels)]
