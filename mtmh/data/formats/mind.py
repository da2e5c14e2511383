"""MIND, news (Wu et al., ACL 2020): behaviors.tsv and news.tsv.

They have no header, are separated by tabs and never quoted.
"""

from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa

from mtmh.data.formats.format import Format, SourceTables, matching_files, source_tables
from mtmh.data.formats.text import select_lines

# impression id, user id, time, history, impressions
BEHAVIORS = r"""
    , fields as (select string_split(text, chr(9)) as field, raw from lines),
    words as (
        select field, raw, try_strptime(field[3], '%m/%d/%Y %I:%M:%S %p') as time,
            list_filter(string_split(field[4], ' '), lambda word: word <> '') as history,
            list_filter(string_split(field[5], ' '), lambda word: word <> '') as news
        from fields
    )
    select field[2] as user_id, time, history,
        list_transform(
            list_filter(news, lambda word: word like '_%-1'), lambda word: word[:-3]
        ) as clicked,
        list_filter(news, lambda word: not word similar to '.+-[01]') as unlabelled,
        len(list_filter(news, lambda word: word like '_%-0')) as passed,
        case
            when field is null then 'the line is not UTF-8 text'
            when len(field) <> 5 then 'the line has not 5 fields separated by tabs'
            when time is null then 'the time is not like 11/13/2019 8:36:57 PM'
            when len(news) = 0 then 'the impression shows no news'
        end as reason,
        case when reason is not null then raw end as "line.tsv"
    from words
"""
# A table `behaviors` of the above, with `line`, to rows in the order of the lines; in a line, the
# history is first.
EVENTS = """
    with good as (select * from behaviors where reason is null),
    earliest as (
        select * from good
        qualify row_number() over (partition by user_id order by time, line) = 1
    ),
    past as (select line, user_id, time, len(history) as length, unnest(history) as item_id,
        generate_subscripts(history, 1) as position from earliest),
    clicks as (select line, user_id, time, unnest(clicked) as item_id,
        generate_subscripts(clicked, 1) as position from good),
    odd as (select line, user_id, time, unnest(unlabelled) as word from good),
    events as (
        select line, position - length as position, user_id, item_id,
            time - to_seconds(length - position + 1) as timestamp, 'history' as event,
            null as reason, null as "line.tsv"
        from past
        union all by name
        select line, position, user_id, item_id, time as timestamp, 'click' as event from clicks
        union all by name
        select line, user_id, time as timestamp, 'click' as event,
            'a shown news is not followed by -0 or -1' as reason, word as "line.tsv" from odd
        union all by name
        select line, user_id, 'click' as event, reason, "line.tsv" from behaviors
        where reason is not null
    )
    select user_id, item_id, timestamp, event, reason, "line.tsv" from events
    order by line, position
"""
# news id, category, subcategory, title, abstract, url, title entities, abstract entities
NEWS = """
    , fields as (select string_split(text, chr(9)) as field, raw from lines)
    select field[1] as item_id, field[4] as title, field[5] as text,
        list_filter([field[2]], lambda name: name <> '') as l1_topics,
        list_filter([field[3]], lambda name: name <> '') as l2_topics,
        case
            when field is null then 'the line is not UTF-8 text'
            when len(field) <> 8 then 'the line has not 8 fields separated by tabs'
        end as reason,
        case when reason is not null then raw end as "line.tsv"
    from fields
"""
# A row an entity of a news, or a list of entities that cannot be read; its weight is the
# confidence, where an entity stands in title and abstract the greater one.
ENTITIES = r"""
    , fields as (select string_split(text, chr(9)) as field from lines),
    written as (
        select field[1] as item_id, unnest(field[7:8]) as text from fields where len(field) = 8
    ),
    lists as (
        select item_id, text, try_cast(text as json) as list from written where trim(text) <> ''
    ),
    entities as (
        select item_id,
            unnest(
                case when json_type(list) = 'ARRAY' then from_json(list, '["JSON"]') else [null] end
            ) as entity,
            coalesce(entity::varchar, text) as text
        from lists
    ),
    words as (
        select item_id, entity ->> 'Label' as concept, entity ->> 'Confidence' as confidence,
            try_cast(confidence as double) as weight, text,
            case
                when entity is null then 'the entities are not a JSON list of objects'
                when concept is null then 'the entity has no Label'
                when confidence is not null and weight is null then 'Confidence is not a number'
            end as reason
        from entities
    )
    select item_id, concept, 'entity' as source, max(weight) as weight, reason,
        case when reason is not null then text end as "line.tsv"
    from words group by all order by item_id, concept, "line.tsv"
"""


def find(folder: Path) -> list[Path]:
    """Behaviors, then news."""
    return matching_files(folder, "behaviors.tsv", "news.tsv")


def read(paths: list[Path]) -> SourceTables:
    """A clicked news is an interaction (event "click") at its impression's time, taken for UTC.

    What was shown and not clicked is left out: rows here are engagements. Of a history, the file
    says only the order and that it lies before the impression. So each user's history is taken from
    the user's earliest impression (in MIND it is the same in all of them) and placed just before
    it, oldest first, one second apart, as event "history": the order within a user holds, the times
    are invented. The run says how many rows this is; `data.positive_events` = [click] does without
    them. L1 is the category, L2 the subcategory. The entities that the publisher found in title and
    abstract are concepts.
    """
    behaviors_tsv, news_tsv = paths
    behaviors = select_lines(behaviors_tsv, BEHAVIORS)
    # SQL knows no order of rows: the line decides between impressions of one moment.
    behaviors = behaviors.append_column("line", pa.array(np.arange(behaviors.num_rows)))
    with duckdb.connect() as connection:
        connection.register("behaviors", behaviors)
        interactions = connection.sql(EVENTS).to_arrow_table()
        counts = "select coalesce(sum(passed), 0), count(*) from behaviors where reason is null"
        passed, impressions = connection.sql(counts).fetchall()[0]
        connection.register("interactions", interactions)
        rows = "select count(*) from interactions where event = 'history'"
        history = connection.sql(rows).fetchall()[0][0]
    # Invented times must not pass for the log's own.
    print(
        f"{behaviors_tsv}: {impressions:,} impressions; {passed:,} news shown and not clicked are"
        f" left out; {history:,} clicks of the histories have no time of their own and are placed"
        " one second apart before their user's first impression",
        flush=True,
    )
    tables = {"interactions": interactions, "items": select_lines(news_tsv, NEWS)}
    # A table without rows would break the contract; news without entities do not.
    entities = select_lines(news_tsv, ENTITIES)
    if entities.num_rows:
        tables["concepts"] = entities
    files = {"interactions": [behaviors_tsv], "items": [news_tsv], "concepts": [news_tsv]}
    return source_tables(tables, files, frozenset({"line.tsv"}))


FORMAT = Format("MIND", "behaviors.tsv, news.tsv", find, read)
