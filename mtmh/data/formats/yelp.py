"""Yelp's academic data set: yelp_academic_dataset_{review,business}.json (JSON Lines)."""

from pathlib import Path

from mtmh.data.formats.format import Format, SourceTables, matching_files, source_tables
from mtmh.data.formats.text import TEXT, select_json

FILES = ("review", "business")
ROOTS = (
    "Active Life",
    "Arts & Entertainment",
    "Automotive",
    "Beauty & Spas",
    "Education",
    "Event Planning & Services",
    "Financial Services",
    "Food",
    "Health & Medical",
    "Home Services",
    "Hotels & Travel",
    "Local Flavor",
    "Local Services",
    "Mass Media",
    "Nightlife",
    "Pets",
    "Professional Services",
    "Public Services & Government",
    "Real Estate",
    "Religious Organizations",
    "Restaurants",
    "Shopping",
)
REVIEW = {name: TEXT for name in ("user_id", "business_id", "stars", "date")}
REVIEWS = """
    select user_id, business_id as item_id,
        try_strptime(date, '%Y-%m-%d %H:%M:%S') as timestamp, 'review' as event,
        try_cast(stars as double) as value,
        case
            when broken then 'the line is not a JSON object'
            when value is null then 'stars is not a number'
            when timestamp is null then 'date is not like 2019-07-14 18:03:56'
        end as reason,
        case when reason is not null then raw end as "line.json"
    from objects
"""
BUSINESS = {name: TEXT for name in ("business_id", "name", "categories", "city", "state")}
BUSINESSES = f"""
    , named as (
        select *, list_transform(string_split(categories, ','), lambda name: trim(name)) as topics
        from objects
    )
    select business_id as item_id, name as title, nullif(city, '') as city,
        nullif(state, '') as state,
        list_filter(topics, lambda topic: topic in {ROOTS}) as l1_topics,
        list_filter(topics, lambda topic: topic <> '' and topic not in {ROOTS}) as l2_topics,
        case when broken then 'the line is not a JSON object' end as reason,
        case when reason is not null then raw end as "line.json"
    from named
"""


def find(folder: Path) -> list[Path]:
    """Reviews, then businesses."""
    return matching_files(folder, *(f"yelp_academic_dataset_{name}.json" for name in FILES))


def read(paths: list[Path]) -> SourceTables:
    """A review is an interaction at its date, which is taken for UTC; its value is the stars.

    Yelp's categories form a tree with 22 roots, of which a business names several nodes: L1 are the
    roots among them, L2 the others. The few names that hold a comma ("Beer, Wine & Spirits") come
    apart, always in the same way. The title is the name; city and state are id features, for a run
    that declares them. Stars and numbers of reviews of a business are of the day of the release,
    after all reviews: they are left out.
    """
    reviews, businesses = paths
    needed = ["business_id", "name", "categories"]
    tables = {
        "interactions": select_json(reviews, REVIEW, list(REVIEW), REVIEWS),
        "items": select_json(businesses, BUSINESS, needed, BUSINESSES),
    }
    files = {"interactions": [reviews], "items": [businesses]}
    return source_tables(tables, files, frozenset({"line.json"}))


FORMAT = Format(
    "Yelp",
    "yelp_academic_dataset_review.json, yelp_academic_dataset_business.json",
    find,
    read,
)
