"""The two tables that every figure and every test is made of: user days, and counts of items and topics."""

import pyarrow as pa

USER_DAYS = pa.schema(  # one row per arm, day and user with impressions or engagements on that day
    [
        ("arm", pa.string()),
        ("day", pa.date32()),
        ("user_id", pa.string()),
        ("bucket", pa.int32()),  # 0..99 of a hash of the user, which has nothing to do with the arms
        ("impressions", pa.int64()),
        ("fresh_impressions", pa.int64()),
        ("cold_impressions", pa.int64()),
        ("relevance_impressions", pa.int64()),
        ("judged_impressions", pa.int64()),  # item and trigger have topics
        ("matched_impressions", pa.int64()),  # and share one
        ("engaged_impressions", pa.int64()),  # at least one positive engagement goes back to it
        ("lists", pa.int64()),
        ("diversity", pa.float64()),  # sum over the diverse lists of their intra-list diversity
        ("diverse_lists", pa.int64()),  # lists with at least two items that have topics
        ("engagements", pa.int64()),  # positive ones: value > 0
        ("attributed_engagements", pa.int64()),  # positive ones that go back to an impression
        ("relevance_engagements", pa.int64()),  # of those: to one of the relevance head
        ("seconds", pa.float64()),  # dwell of all engagements
        ("active", pa.int64()),  # 1 with at least one positive engagement, else 0
        ("novel_interests", pa.int64()),
        ("recalled_interests", pa.float64()),  # share of the user's top topics that the impressions had
        ("interested", pa.int64()),  # 1 with impressions and top topics to recall, else 0
    ]
)
ITEM_COUNTS = pa.schema(  # one row per arm, day, bucket and item, and one per topic
    [
        ("arm", pa.string()),
        ("day", pa.date32()),
        ("bucket", pa.int32()),
        ("over", pa.string()),  # "item" or "topic": what `key` names
        ("key", pa.string()),  # item_id or L2 topic
        ("impressions", pa.float64()),  # a topic's: an item counts for its topics in equal parts
        ("views", pa.float64()),  # engagements of any kind
        ("size", pa.int64()),  # how many keys there could be: items by the end of that day, or topics of the catalog
    ]
)
