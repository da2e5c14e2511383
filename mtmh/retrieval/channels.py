"""The channels of a version: named sources of candidates, each with an index and a quota.

A version's manifest names them, and everything behind it takes them from there. A channel's number,
as `Pool.channel` and the merge have it, is its place in that list.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mtmh.config import RetrievalSettings
from mtmh.errors import UserError
from mtmh.restriction import Restriction
from mtmh.retrieval.merge import quotas_at

DEFAULT_ALPHA = RetrievalSettings().alpha


@dataclass(frozen=True)
class Channel:
    """One source: `head` says whose vectors its index holds, `quota` its percent of a merged list
    where a request names none, `items` the only ones that it gives (see `Restriction`); None: all.
    """

    name: str
    head: str
    quota: float
    items: str | None = None


def channels_of(heads: Sequence[str], settings: RetrievalSettings) -> tuple[Channel, ...]:
    """The channels of a version whose model has `heads`: those of `settings`, or each head by
    `alpha`.

    Raises UserError for a channel of a head that the model does not have.
    """
    if not settings.channels:
        quotas = quotas_at(settings.alpha, heads)
        return tuple(Channel(*pair) for pair in zip(heads, heads, quotas, strict=True))
    if unknown := [c.head for c in settings.channels if c.head not in heads]:
        raise UserError(
            f"retrieval.channels names {' and '.join(unknown)}, but the model's heads are "
            f"{', '.join(heads)}. Name those, or train others by train.heads."
        )
    return tuple(Channel(c.name, c.head, float(c.quota), c.items) for c in settings.channels)


def channels_in(manifest: dict[str, Any]) -> tuple[Channel, ...]:
    """The channels that a version's manifest, or its package's serving.json, names; one from before
    they were named there has one a head.
    """
    if "channels" in manifest:
        return tuple(_channel_in(named) for named in manifest["channels"])
    names = manifest.get("heads")  # serving.json's
    if names is None:
        indexes = [name for name in manifest["sha256"] if name.endswith(".faiss")]
        names = [name.removesuffix(".faiss") for name in indexes]
    quotas = quotas_at(manifest.get("alpha", DEFAULT_ALPHA), names)
    return tuple(Channel(*pair) for pair in zip(names, names, quotas, strict=True))


def _channel_in(named: dict[str, Any]) -> Channel:
    """Raises UserError for a restriction that is not known here: it would be searched as if it were
    none."""
    items = named["restriction"]
    try:
        if items is not None:
            Restriction.parse(items)
    except (TypeError, ValueError):
        raise UserError(
            f"channel {named['name']!r} of this version is restricted to some items, which "
            "this release does not know how to search. Use the release that wrote it."
        ) from None
    return Channel(named["name"], named["head"], named["quota"], items)


def as_manifest(channels: Sequence[Channel]) -> list[dict[str, Any]]:
    """What a manifest says of them; `restriction` None: all items of the head's index."""
    named = [asdict(channel) for channel in channels]
    return [channel | {"restriction": channel.pop("items")} for channel in named]
