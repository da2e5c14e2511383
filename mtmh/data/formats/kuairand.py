"""KuaiRand (Gao et al., CIKM 2022), short videos: log_*.csv, video_features_basic_*.csv, and, where
they are laid beside them, kuairand_video_categories.csv and kuairand_video_captions.csv.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mtmh.data.formats.format import Format, SourceTables, matching_files, source_tables
from mtmh.data.formats.text import csv_batches, select

LOG = ["user_id", "video_id", "time_ms", "is_click", "long_view", "play_time_ms"]
CLICKS = """
    select user_id, video_id as item_id, try_cast(time_ms as bigint) as milliseconds,
        case when long_view = '1' then 'long_view' else 'click' end as event,
        try_cast(play_time_ms as double) / 1000 as dwell_seconds,
        case
            when is_click <> '1' then 'is_click is neither 0 nor 1'
            when milliseconds is null then 'time_ms is not a number'
            when long_view not in ('0', '1') then 'long_view is neither 0 nor 1'
            when dwell_seconds is null then 'play_time_ms is not a number'
        end as reason,
        case when reason is not null then to_json(batch)::varchar end as "row.csv"
    from batch where is_click <> '0'
"""
# Dates are Beijing's, as `date` and `hourmin` of the log are.
VIDEOS = """
    select video_id as item_id, nullif(author_id, '') as creator_id,
        try_strptime(upload_dt, '%Y-%m-%d') - interval 8 hour as created_at,
        list_filter(
            list_transform(string_split(tag, ','), lambda word: trim(word)), lambda word: word <> ''
        ) as tags,
        case
            when upload_dt <> '' and created_at is null then 'upload_dt is not a date'
        end as reason,
        case when reason is not null then to_json(batch)::varchar end as "row.csv"
    from batch
"""
LEVELS = ["final_video_id", "first_level_category_name", "second_level_category_name"]
CATEGORIES = """
    select final_video_id as item_id,
        list_filter(
            [first_level_category_name], lambda name: name not in ('', 'UNKNOWN')
        ) as l1_topics,
        list_filter(
            [second_level_category_name], lambda name: name not in ('', 'UNKNOWN')
        ) as l2_topics
    from batch
"""
CAPTION = ["final_video_id", "caption", "show_cover_text"]
CAPTIONS = "select final_video_id as item_id, caption as title, show_cover_text as text from batch"


def find(folder: Path) -> list[Path]:
    """Logs, videos, then what there is of categories and captions."""
    logs_and_videos = matching_files(folder, "log_*.csv", "video_features_basic_*.csv")
    if not logs_and_videos:
        return []
    categories = matching_files(folder, "kuairand_video_categories.csv")
    return logs_and_videos + categories + matching_files(folder, "kuairand_video_captions.csv")


def read(paths: list[Path]) -> SourceTables:
    """A click is an interaction: event "long_view" where it is one, "click" elsewhere.

    Its dwell is the time played. What was shown and not clicked is left out, and the run says how
    many. Clicks on random exposures (log_random_*) count as the others. With the file of
    categories, L1 and L2 are its first two levels; without it the tags are all the topics there
    are, and stand at both levels. Title and text are the caption and the words on the cover.
    """
    logs = [path for path in paths if path.name.startswith("log_")]
    videos = [path for path in paths if path.name.startswith("video_features_basic_")]
    further = {path.stem: path for path in paths if path not in logs + videos}
    # The videos, with the topics and texts that the further files have.
    columns = ["video_id", "author_id", "upload_dt", "tag"]
    items = pa.concat_tables([select(csv_batches(path, columns), VIDEOS)[0] for path in videos])
    topics = {"l1_topics": items["tags"], "l2_topics": items["tags"]}
    if "kuairand_video_categories" in further:
        topics = _joined(items, further["kuairand_video_categories"], LEVELS, CATEGORIES)
    texts = {}
    if "kuairand_video_captions" in further:
        texts = _joined(items, further["kuairand_video_captions"], CAPTION, CAPTIONS)
    items = items.drop_columns(["tags"])
    for name, column in {**topics, **texts}.items():
        items = items.append_column(name, column)
    # The logs: what was clicked.
    events = []
    for path in logs:
        clicks, impressions = select(csv_batches(path, LOG), CLICKS)
        passed = f"{impressions - clicks.num_rows:,} of {impressions:,} videos"
        print(f"{path}: {passed} were shown and not clicked: left out", flush=True)
        time = clicks["milliseconds"].cast(pa.timestamp("ms", tz="UTC"))
        events.append(clicks.drop_columns(["milliseconds"]).append_column("timestamp", time))
    tables = {"interactions": pa.concat_tables(events), "items": items}
    files = {"interactions": logs, "items": [*videos, *further.values()]}
    return source_tables(tables, files, frozenset({"row.csv"}))


def _joined(
    items: pa.Table, path: Path, columns: list[str], sql: str
) -> dict[str, pa.ChunkedArray]:
    """What a further file says of each item, or null: it covers the videos of all of KuaiRand."""
    table = select(csv_batches(path, columns), sql)[0]
    row = pc.index_in(items["item_id"], value_set=table["item_id"].combine_chunks())
    return {name: table[name].take(row) for name in table.column_names if name != "item_id"}


FORMAT = Format("KuaiRand", "log_*.csv, video_features_basic_*.csv", find, read)
