"""Which rows of the log count as engagement, and what a run says of it."""

import re

import pyarrow as pa
import pyarrow.compute as pc

from mtmh.config import DataSettings
from mtmh.errors import UserError

MOST_LISTED = 12  # kinds of events that are listed
# Names of events that say what was shown, passed over or disliked, not what was engaged with.
DOUBTFUL = re.compile(
    r"impress|expos|show|seen|display|deliver|skip|dislike|unlike|downvote|thumbs?[ _-]?down"
    r"|refund|return|remov|hide|hidden|dismiss|report|block|not[ _-]?interested|uninterest"
    r"|negative|bounce|unfollow|unsubscribe",
    re.IGNORECASE,
)


def engagements(interactions: pa.Table, settings: DataSettings) -> pa.Table:
    """The rows that count as engagement; a negative value is none unless `min_value` says so.

    Raises UserError when no row is left.
    """
    if not interactions.num_rows:
        raise UserError(
            "no interactions are left after the checks: there is nothing to learn from."
        )
    engaged = interactions
    if settings.positive_events:
        engaged = engaged.filter(
            pc.is_in(engaged["event"], value_set=pa.array(settings.positive_events))
        )
        if not engaged.num_rows:
            names = ", ".join(sorted(pc.unique(interactions["event"]).to_pylist())[:20])
            raise UserError(
                f"no row has an event of data.positive_events {settings.positive_events}; the data"
                f" have: {names}."
            )
    # The least value that counts; a message names the most, to set it by.
    least = 0.0 if settings.min_value is None else settings.min_value
    most = pc.max(engaged["value"]).as_py()
    engaged = engaged.filter(pc.greater_equal(engaged["value"], least))
    if not engaged.num_rows and settings.min_value is None:
        raise UserError(
            f"every value is negative (the largest is {most:g}), and such rows are no engagement."
            " Write data.min_value, the least value that is one, or leave the column value out."
        )
    if not engaged.num_rows:
        raise UserError(
            f"no row has a value of data.min_value {settings.min_value} or more; the largest is"
            f" {most}."
        )
    return engaged


def doubtful_events(events: dict[str, int]) -> list[str]:
    """The names among `events` that sound like exposures or dislikes."""
    return [name for name in events if DOUBTFUL.search(name)]


def value_counts(column: pa.ChunkedArray) -> dict[str, int]:
    """Rows of each value, the most frequent first."""
    pairs = [
        (str(row["values"]), int(row["counts"])) for row in pc.value_counts(column).to_pylist()
    ]
    return dict(sorted(pairs, key=lambda pair: (-pair[1], pair[0])))


def say_events(interactions: pa.Table, engaged: pa.Table) -> None:
    """Print which events count as engagement and how many, what does not count, and which names are
    doubtful.
    """
    counted, events = value_counts(engaged["event"]), value_counts(interactions["event"])
    print(f"count as engagement: {listed(counted)}", flush=True)
    # By its values, an event may count in some rows and not in others.
    rest = {name: rows - counted.get(name, 0) for name, rows in events.items()}
    rest = {name: rows for name, rows in rest.items() if rows}
    if rest:
        # The names of the events do not show that a value was the reason.
        negative = pc.sum(pc.less(interactions["value"], 0.0)).as_py()
        values = f" ({negative:,} rows have a negative value)" if negative else ""
        print(f"do not count: {listed(rest)}{values}", flush=True)
    # Only a warning: what a name sounds like proves nothing.
    if doubtful := doubtful_events(counted):
        names = ", ".join(doubtful[:MOST_LISTED])
        print(
            f"warning: events named {names} sound like what was shown, passed over or disliked, and"
            " count as engagement: name the events that are one in data.positive_events",
            flush=True,
        )


def listed(counts: dict[str, int]) -> str:
    """Events with their rows, for people."""
    kinds = [f"{name} ({rows:,})" for name, rows in counts.items()]
    text = ", ".join(kinds[:MOST_LISTED])
    if len(kinds) > MOST_LISTED:
        text += f" and {len(kinds) - MOST_LISTED:,} more kinds"
    return text
