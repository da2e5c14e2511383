"""Every column of user days and every metric once more, the plain way: a loop over records, from
the definitions.
"""

from collections import Counter, defaultdict
from datetime import date, timedelta
from itertools import combinations
from math import log2, sqrt
from typing import Any

from helpers.watched import ARMS, FIRST, arm_of

Row = dict[str, Any]
DAY = timedelta(days=1)
SUMS = (
    *(
        "impressions",
        "fresh_impressions",
        "cold_impressions",
        "relevance_impressions",
        "judged_impressions",
    ),
    *(
        "matched_impressions",
        "engaged_impressions",
        "lists",
        "diversity",
        "diverse_lists",
        "engagements",
    ),
    *("attributed_engagements", "relevance_engagements", "seconds", "active"),
    *("novel_interests", "recalled_interests", "interested"),
)


def user_days(
    items: list[Row], history: list[Row], log: list[Row]
) -> dict[tuple[str, date, str], Row]:
    """arm, day, user_id -> the sums."""
    catalog = {one["item_id"]: one for one in items}
    answers = [one for one in log if one["kind"] == "exposure"]
    events = [one for one in log if one["kind"] == "engagement"]
    rows: dict[tuple[str, date, str], Row] = defaultdict(lambda: dict.fromkeys(SUMS, 0))
    touched = [(one["item_id"], one["timestamp"].date()) for one in [*history, *events]]
    liked = [
        (one["user_id"], topic, one["timestamp"].date())
        for one in [*history, *events]
        if one["value"] > 0
        for topic in catalog[one["item_id"]]["l2_topics"]
    ]
    for one in answers:
        user, time, day = one["user_id"], one["timestamp"], one["timestamp"].date()
        row = rows[arm_of(user), day, user]
        row["lists"] += 1
        for item, head, trigger in zip(one["item_id"], one["head"], one["trigger_id"], strict=True):
            topics = set(catalog[item]["l2_topics"])
            of_trigger = set(catalog[trigger]["l2_topics"]) if trigger else set()
            row["impressions"] += 1
            row["fresh_impressions"] += time - catalog[item]["created_at"] < timedelta(hours=48)
            row["cold_impressions"] += not any(
                other == item and when < day for other, when in touched
            )
            row["relevance_impressions"] += head == "relevance"
            row["judged_impressions"] += bool(topics and of_trigger)
            row["matched_impressions"] += bool(topics & of_trigger)
        with_topics = [
            set(catalog[item]["l2_topics"]) for item in one["item_id"] if catalog[item]["l2_topics"]
        ]
        pairs = list(combinations(with_topics, 2))
        if pairs:
            row["diverse_lists"] += 1
            row["diversity"] += sum(1 - len(a & b) / sqrt(len(a) * len(b)) for a, b in pairs) / len(
                pairs
            )
    first_liked: dict[tuple[str, str], tuple[Any, Row]] = {}
    for one in events:
        user, day = one["user_id"], one["timestamp"].date()
        row = rows[arm_of(user), day, user]
        row["seconds"] += one["dwell_seconds"] or 0
        if one["value"] <= 0:
            continue
        row["active"] = 1
        row["engagements"] += 1
        found = impression(one, answers)
        if found:
            row["attributed_engagements"] += 1
            row["relevance_engagements"] += found[1] == "relevance"
            key = found[0], one["item_id"]
            if key not in first_liked or one["timestamp"] < first_liked[key][0]:
                first_liked[key] = one["timestamp"], row
    for _, row in first_liked.values():
        row["engaged_impressions"] += 1
    add_interests(rows, answers, liked, catalog)
    return dict(rows)


def add_interests(
    rows: dict[tuple[str, date, str], Row],
    answers: list[Row],
    liked: list[tuple[str, str, date]],
    catalog: dict[str, Row],
) -> None:
    """Into the rows: what was new to a user that day, and what of the interests from before the log
    was shown.
    """
    before = [(user, topic) for user, topic, day in liked if day < FIRST]
    for (_, day, user), row in rows.items():
        today = {topic for who, topic, when in liked if who == user and when == day}
        lately = {
            topic for who, topic, when in liked if who == user and day - 28 * DAY <= when < day
        }
        row["novel_interests"] = len(today - lately)
        counts = Counter(topic for who, topic in before if who == user)
        top = sorted(counts, key=lambda topic: (-counts[topic], topic))[:5]
        lists = [
            one for one in answers if one["user_id"] == user and one["timestamp"].date() == day
        ]
        had = {
            topic
            for one in lists
            for item in one["item_id"]
            for topic in catalog[item]["l2_topics"]
        }
        if top and lists:
            row["interested"] = 1
            row["recalled_interests"] = len(had & set(top)) / len(top)


def impression(event: Row, answers: list[Row]) -> tuple[str, str] | None:
    """Request and head of the impression that an event goes back to."""
    own = [
        one
        for one in answers
        if one["user_id"] == event["user_id"] and event["item_id"] in one["item_id"]
    ]
    if event["request_id"] is None:
        own = sorted(
            (one for one in own if one["timestamp"] <= event["timestamp"]),
            key=lambda one: one["timestamp"],
        )[-1:]
    else:
        own = [one for one in own if one["request_id"] == event["request_id"]]
    for one in own:
        if -timedelta(minutes=5) <= event["timestamp"] - one["timestamp"] <= timedelta(hours=24):
            return one["request_id"], one["head"][one["item_id"].index(event["item_id"])]
    return None


def daily(
    items: list[Row], history: list[Row], log: list[Row], days: int
) -> dict[tuple[str, date], Row]:
    """arm, day -> every metric, None where it has no meaning."""
    rows = user_days(items, history, log)
    found: dict[tuple[str, date], Row] = {}
    for arm in ARMS:
        for day in (FIRST + n * DAY for n in range(days)):
            seen = {one["user_id"] for one in log if one["timestamp"].date() <= day}
            users = sum(arm_of(user) == arm for user in seen)
            if not users:
                continue
            total = {
                name: sum(row[name] for key, row in rows.items() if key[:2] == (arm, day))
                for name in SUMS
            }
            mine = [
                one
                for one in log
                if arm_of(one["user_id"]) == arm and one["timestamp"].date() == day
            ]
            found[arm, day] = {"users": users, "active_users": total["active"]}
            found[arm, day] |= ratios(total, users) | of_sets(items, mine, day)
    return found


def ratios(total: Row, users: int) -> Row:
    """The metrics that are one sum divided by another, or by the users."""

    def over(a: str, b: str) -> float | None:
        return total[a] / total[b] if total[b] else None

    return {
        "daily_active_users": total["active"] / users,
        "time_spent": total["seconds"] / users,
        "fresh_share": over("fresh_impressions", "impressions"),
        "novel_interests": over("novel_interests", "active"),
        "interest_recall": over("recalled_interests", "interested"),
        "engagement_rate": over("engaged_impressions", "impressions"),
        "relevance_share": over("relevance_impressions", "impressions"),
        "relevance_engagement_share": over("relevance_engagements", "attributed_engagements"),
        "topic_match": over("matched_impressions", "judged_impressions"),
        "diversity": over("diversity", "diverse_lists"),
        "cold_share": over("cold_impressions", "impressions"),
    }


def of_sets(items: list[Row], mine: list[Row], day: date) -> Row:
    """The metrics of what an arm's users were shown and viewed on a day, all together."""
    catalog = {one["item_id"]: one for one in items}
    shown = Counter(item for one in mine if one["kind"] == "exposure" for item in one["item_id"])
    viewed = {one["item_id"] for one in mine if one["kind"] == "engagement"}
    topics: Counter[str] = Counter()
    for item, count in shown.items():
        for topic in catalog[item]["l2_topics"]:
            topics[topic] += count / len(catalog[item]["l2_topics"])
    there = [one["item_id"] for one in items if one["created_at"].date() <= day]
    counts = [shown[item] for item in there]
    apart = sum(abs(a - b) for a in counts for b in counts)
    entropy = -sum(n / topics.total() * log2(n / topics.total()) for n in topics.values())
    return {
        "distinct_item_views": len(viewed) if mine else None,
        "topic_entropy": entropy if topics else None,
        "catalog_coverage": len(shown) / len(there) if mine else None,
        "gini": apart / (2 * len(there) * sum(counts)) if shown else None,
    }
