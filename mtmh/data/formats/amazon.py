"""Amazon Reviews 2023 (McAuley Lab): <Category>.jsonl and meta_<Category>.jsonl, also .gz.

One or more categories.
"""

from pathlib import Path

import pyarrow as pa

from mtmh.data.formats.format import Format, SourceTables, matching_files, source_tables
from mtmh.data.formats.text import TEXT, TEXTS, drop_duplicates, select_json
from mtmh.errors import UserError

REVIEW = {name: TEXT for name in ("user_id", "parent_asin", "rating", "timestamp")}
REVIEWS = """
    select user_id, parent_asin as item_id, try_cast(timestamp as bigint) as milliseconds,
        'review' as event, try_cast(rating as double) as value,
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
    , paths as (
        select *, list_filter(categories, lambda name: trim(name) <> '') as path from objects
    )
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
    """Reviews, then metadata, each sorted.

    Raises UserError when a category has only one of the two.
    """
    # Reviews are named by the category, so only a metadata file tells this format from others.
    paths = matching_files(folder, "*.jsonl") + matching_files(folder, "*.jsonl.gz")
    files = {path.name: path for path in paths}
    items = sorted(name for name in files if name.startswith("meta_"))
    if not items:
        return []
    reviews = sorted(name for name in files if name not in items)
    # Without its metadata a review is of a product that nothing is known of.
    unpaired = {name.removeprefix("meta_") for name in items} ^ set(reviews)
    if unpaired:
        name = min(unpaired)
        # The category's bare name is that of the reviews.
        present, absent = name, f"meta_{name}"
        if absent in files:
            present, absent = absent, present
        raise UserError(
            f"data folder {folder}: {present} is there, {absent} is not. Add it, or take the other"
            " away."
        )
    return [files[name] for name in [*reviews, *items]]


def read(paths: list[Path]) -> SourceTables:
    """A review is an interaction with the parent product, its value the rating; the store is the
    creator.

    L1 is the second step of the product's category path (the first is the department), or the main
    category where the path is that short; L2 is the step after. A name that stands under two
    parents counts as one topic. The text is features and description. A review that repeats another
    in user, product, time and rating is read once, and the run says how many do. Average ratings
    and prices are of the day of the crawl, after most of the reviews: they are left out.
    """
    reviews = [path for path in paths if not path.name.startswith("meta_")]
    metadata = [path for path in paths if path not in reviews]
    events = []
    for path in reviews:
        events.append(drop_duplicates(select_json(path, REVIEW, list(REVIEW), REVIEWS), path))
    interactions = pa.concat_tables(events)
    time = interactions["milliseconds"].cast(pa.timestamp("ms", tz="UTC"))
    interactions = interactions.drop_columns(["milliseconds"]).append_column("timestamp", time)
    needed = ["parent_asin", "title", "categories"]
    items = pa.concat_tables([select_json(path, META, needed, ITEMS) for path in metadata])
    tables = {"interactions": interactions, "items": items}
    files = {"interactions": reviews, "items": metadata}
    return source_tables(tables, files, frozenset({"line.json"}))


FORMAT = Format("Amazon Reviews 2023", "<Category>.jsonl, meta_<Category>.jsonl", find, read)
