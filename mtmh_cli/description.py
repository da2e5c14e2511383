"""What `mtmh data describe` prints."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from mtmh.data.profile.advice import Advice
from mtmh.data.profile.describe import Description, TopicProfile
from mtmh.display import visible
from mtmh_cli.summary import screen

STYLES = {"ok": "green", "warn": "yellow", "lacks": "red"}


def show_description(profile: Description, advice: list[Advice]) -> None:
    """Print the figures, a line each, and what they mean for the method."""
    console = screen()
    console.print(f"{visible(str(profile.path))}: {profile.form}", soft_wrap=True)
    for name, value in (*_log_lines(profile), *_catalog_lines(profile)):
        console.print(f"  {name:13} {visible(value, 1000)}", soft_wrap=True)
    console.print("For this method")
    for finding in advice:
        console.print(f"  {finding.state:5} ", style=STYLES[finding.state], end="")
        console.print(f"{visible(f'{finding.about}: {finding.means}')}", soft_wrap=True)


def as_json(profile: Description, advice: list[Advice]) -> dict[str, Any]:
    """The same as one object: the figures, and `findings`."""
    return {**asdict(profile), "findings": [asdict(finding) for finding in advice]}


def _log_lines(profile: Description) -> Iterator[tuple[str, str]]:
    """What the log holds, and what the split makes of it."""
    log, split = profile.log, profile.split
    rejected = {name: table for name, table in profile.rejected.items() if table.rows}
    for name, table in rejected.items():
        reasons = [f"{rows:,} x {reason}" for reason, rows in list(table.reasons.items())[:3]]
        yield "rejected", f"{table.rows:,} of {table.of:,} {name}: {', '.join(reasons)}"
    if not rejected:
        yield "rejected", "no row"
    # Who did what, and when.
    yield "interactions", f"{log.rows:,}, of which {log.engagements:,} are engagements"
    kinds = [f"{name} {rows:,}" for name, rows in list(log.events.items())[:8]]
    more = f" and {len(log.events) - 8:,} kinds more" if len(log.events) > 8 else ""
    yield "events", ", ".join(kinds) + more
    per_user = f"median {log.events_per_user_median:g}, p90 {log.events_per_user_p90:g}"
    yield "users", f"{log.users:,}, engagements each: {per_user}"
    items = f"{profile.catalog.items:,}, engaged with {log.items:,}"
    yield "items", f"{items}; density {log.density:.3%}"
    yield "period", f"{log.first} to {log.last} UTC"
    tied = f"{log.tied:.1%} of the engagements are at the same time as another of their user"
    yield "time", f"in {log.resolution}; {tied}"
    # What an event has beside: not every log does.
    yield "values", f"{log.values[0]:g} to {log.values[1]:g}"
    median = "" if log.dwell_median is None else f", median {log.dwell_median:g} s"
    yield "dwell times", f"{log.dwell:.0%} of the engagements{median}"
    yield "arms", ", ".join(f"{name} {rows:,}" for name, rows in log.arms.items()) or "none"
    yield "impressions", f"{log.exposures:,} among the engagements"
    if split is not None:
        halves = f"{split.train:,} engagements before, {split.test:,} after"
        yield "split", f"T2 begins {split.time} UTC: {halves}"
        learners = f"{split.learners:,} users ({split.learners / log.users:.0%})"
        yield "histories", f"{learners} have two different items in T1"
        yield "test users", f"{split.test_users:,}, with {split.targets:,} new items in T2"
        cold = f"{split.cold_items:,} are first engaged with in T2"
        yield "cold items", f"{cold}: {split.cold_share:.0%} of its engagements"


def _catalog_lines(profile: Description) -> Iterator[tuple[str, str]]:
    """What is known of the items: content, creators, concepts, topics."""
    catalog = profile.catalog
    characters = catalog.characters
    length = "" if characters is None else f", median {characters:,.0f} characters together"
    yield "text", f"title {catalog.title:.0%}, text {catalog.text:.0%} of the items{length}"
    creators = f"creators {catalog.creator:.0%} ({catalog.creators:,})"
    dated = f"created_at {catalog.created_at:.0%}"
    yield "of the items", f"images {catalog.image:.0%}, {creators}, {dated}"
    yield "concepts", f"{catalog.concepts:,} items have one"
    yield "topics L1", _topics(profile.l1)
    spelled = f"{profile.spelled:.1%} of the items spell one of theirs"
    yield "topics L2", f"{_topics(profile.l2)}; {spelled}"


def _topics(level: TopicProfile) -> str:
    if level.items_per_topic is None:
        return "none"
    spread = f"items each: median {level.items_per_topic:g}, most {level.largest:.0%} of all"
    return f"{level.topics:,}, {spread}; {level.without:.1%} of the items have none"
