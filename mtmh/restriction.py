"""Which items a channel gives, as people write it: `items` of `retrieval.channels`."""

import re
from dataclasses import dataclass

FORMS = "'topic:NAME', 'fresh:HOURS' or 'cluster:N/K' (cluster N of K, from 1)"


@dataclass(frozen=True)
class Restriction:
    """One of three: items of a `topic`, those at most `hours` old, those of a `cluster` of
    `clusters`; the others are None.
    """

    topic: str | None = None
    hours: float | None = None
    cluster: int | None = None  # from 0
    clusters: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Restriction":
        """Read "topic:NAME", "fresh:HOURS" or "cluster:N/K"; ValueError for anything else.

        >>> Restriction.parse("cluster:2/4").cluster
        1
        """
        if match := re.fullmatch("topic:(.+)", text):
            return cls(topic=match[1])
        if match := re.fullmatch(r"fresh:(\d+\.?\d*)", text):
            return cls(hours=_positive(float(match[1]), text))
        if match := re.fullmatch(r"cluster:(\d+)/(\d+)", text):
            cluster, clusters = int(match[1]), int(match[2])
            if not 1 <= cluster <= clusters:
                raise ValueError(
                    f"items {text!r}: there is no cluster {cluster} of {clusters}. Clusters are"
                    f" numbered from 1: write one from 1 to {max(clusters, 1)}, such as"
                    f" 'cluster:1/{max(clusters, 2)}'."
                )
            return cls(cluster=cluster - 1, clusters=clusters)
        raise ValueError(f"items {text!r} names no items. Write {FORMS}, or leave it out for all.")


def _positive(hours: float, text: str) -> float:
    if not hours > 0:
        raise ValueError(f"items {text!r}: no item is so new. Write hours above 0: 'fresh:48'.")
    return hours
