"""Amazon Reviews 2023 (McAuley Lab): <Category>.jsonl and meta_<Category>.jsonl, one or more categories, .gz or not."""

from pathlib import Path

import pyarrow as pa

from mtmh.data.formats.form import Form, Source, as_source, present
from mtmh.data.formats.text import TEXT, TEXTS, once, select_json
from mtmh.errors import UserError

REVIEW = {name: TEXT for name in ("user_id", "parent_asin", "rating", "timestamp")}
REVIEWS = """
    select user_id, parent_asin as item_id, try_cast(timestamp as bigint) as milliseconds, 'review' as event,
        try_cast(rating as double) as value,
        case
            when broken then 'the line is not a JSON object'
            when value is null then 'rating is not a number'
            when milliseconds is null then 'timestamp is not a number'
        end as reason,
        case when reason is not null then raw end as "line.json"
    from objects
"""
META = {
    **{name: TEXT for name in ("parent_asin", "title", "store", "main_category")},
    **{name: TEXTS for name in ("features", "description", "categories")},
}
# The first category is the department, which a file's items have in common.
ITEMS = """
    , paths as (select *, list_filter(categories, lambda one: trim(one) <> '') as path from objects)
    select parent_asin as item_id, title, nullif(store, '') as creator_id,
        array_to_string(list_concat(features, description), ' ') as text,
        case
            when len(path) > 1 then path[2:2] when main_category <> '' then [main_category] else []
        end as l1_topics,
        path[3:3] as l2_topics,
        case when broken then 'the line is not a JSON object' end as reason,
        case when reason is not null then raw end as "line.json"
    from paths
"""


def find(folder: Path) -> list[Path]:
    """Reviews, then metadata, each sorted. Raises UserError when a category has only one of the two."""
    found = {path.name: path for pattern in ("*.jsonl", "*.jsonl.gz") for path in present(folder, pattern)}
    items = sorted(name for name in found if name.startswith("meta_"))
    if not items:
        return []
    reviews = sorted(name for name in found if name not in items)
    wanted = {name.removeprefix("meta_") for name in items} ^ set(reviews)
    if wanted:
        name = min(wanted)
        absent, there = (name, f"meta_{name}") if f"meta_{name}" in found else (f"meta_{name}", name)
        raise UserError(f"data folder {folder}: {there} is there, {absent} is not. Add it, or take the other away.")
    return [found[name] for name in [*reviews, *items]]


def read(paths: list[Path]) -> Source:
    """A review is an interaction with the parent product, its value the rating; the store is the creator.

    L1 is the second step of the product's category path (the first is the department), or the main category where
    the path is that short; L2 is the step after. A name that stands under two parents counts as one topic. The text
    is features and description. A review that repeats another in user, product, time and rating is read once, and
    the run says how many do. Average ratings and prices are of the day of the crawl, after most of the reviews: they
    are left out.
    """
    reviews = [path for path in paths if not path.name.startswith("meta_")]
    metadata = [path for path in paths if path not in reviews]
    read_reviews = [once(select_json(path, REVIEW, list(REVIEW), REVIEWS), path) for path in reviews]
    interactions = pa.concat_tables(read_reviews)
    moment = interactions["milliseconds"].cast(pa.timestamp("ms", tz="UTC"))
    interactions = interactions.drop_columns(["milliseconds"]).append_column("timestamp", moment)
    items = pa.concat_tables(
        [select_json(path, META, ["parent_asin", "title", "categories"], ITEMS) for path in metadata]
    )
    tables = {"interactions": interactions, "items": items}
    return as_source(tables, {"interactions": reviews, "items": metadata}, frozenset({"line.json"}))


FORM = Form("Amazon Reviews 2023", "<Category>.jsonl, meta_<Category>.jsonl", find, read)
