"""Topics that are written as one text ("a|b", "['a', 'b']") as lists of topics, and how they were
split is said.
"""

import ast
import json

import pyarrow as pa
import pyarrow.compute as pc

from mtmh.data import contract
from mtmh.errors import UserError

SEPARATORS = ("|", ";")  # in the order in which they are tried; in a list of one text, "|" alone
LIST = r"(?s)^\s*\[.*\]\s*$"
ENTITY = r"&#?\w+;"  # of HTML, such as &amp;: no separator
UNSEPARATED = r"""['"]\s+['"]"""  # numpy's ['a' 'b']


def as_topics(values: pa.ChunkedArray, name: str, file: str) -> pa.ChunkedArray:
    """A column of text, or of lists of one text, as lists.

    Lists of more than one topic stay as they are. Raises UserError when a text looks like a list
    and is none.
    """
    if contract.accepts(pa.string(), values.type):
        text = values.cast(pa.string())
    else:
        lists = values.cast(pa.list_(pa.string()))
        length = pc.list_value_length(lists)
        # An empty list has no first element: it is null instead.
        padded = pc.if_else(pc.greater(length, 0), lists, pa.scalar(None, lists.type))
        text = pc.list_element(padded, 0)
        # Lists of one text may hold several topics, all written as a list or separated by bars.
        written_out = pc.all(pc.match_substring_regex(text, LIST), min_count=1).as_py()
        as_one = written_out or _separator(text) == SEPARATORS[0]
        if pc.any(pc.greater(length, 1)).as_py() or not as_one:
            _say_unsplit(pc.list_flatten(lists), name, file)
            return lists
    # Each distinct text is split once.
    empty = pc.equal(pc.utf8_trim_whitespace(text), "")
    text = pc.if_else(empty, pa.scalar(None, pa.string()), text)
    distinct = pc.unique(text).drop_null()
    topics, manner = _split(distinct, name, file)
    example = f", e.g. {distinct[0].as_py()!r} is {topics[0]}" if topics else ""
    print(f"{file}: {name} is text, read as lists {manner}{example}", flush=True)
    lists = pa.array(topics, pa.list_(pa.string()))
    return pa.chunked_array([lists.take(pc.index_in(text, value_set=distinct).combine_chunks())])


def _separator(text: pa.ChunkedArray | pa.Array) -> str | None:
    """The first of SEPARATORS that stands in a text."""
    plain = pc.replace_substring_regex(text, ENTITY, "")
    for mark in SEPARATORS:
        if pc.any(pc.match_substring(plain, mark)).as_py():
            return mark
    return None


def _split(distinct: pa.Array, name: str, file: str) -> tuple[list[list[str]], str]:
    """The topics of each distinct text, and how they were split, in words."""
    texts = distinct.to_pylist()
    if texts and pc.all(pc.match_substring_regex(distinct, LIST)).as_py():
        return [_parse_list(text, name, file) for text in texts], "written out"
    separator = _separator(distinct)
    if separator is None:
        _say_unsplit(distinct, name, file)
        return [[text] for text in texts], "of one topic each"
    topics = []
    for text in texts:
        words = [word.strip() for word in text.split(separator)]
        topics.append([word for word in words if word])
    return topics, f"separated by {separator!r}"


def _parse_list(text: str, name: str, file: str) -> list[str]:
    """The topics of a list as JSON or Python writes it. Raises UserError where it is neither."""
    try:
        topics = json.loads(text)
    except ValueError:
        try:
            unseparated = pc.match_substring_regex(text, UNSEPARATED).as_py()
            topics = None if unseparated else ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            topics = None
    if not isinstance(topics, list):
        raise UserError(
            f'{file}: {name} has {text[:200]}, which is no list. Write ["a", "b"], or a|b.'
        )
    return [str(topic) for topic in topics if topic is not None]


def _say_unsplit(topics: pa.Array | pa.ChunkedArray, name: str, file: str) -> None:
    """Print the first mark that stands in topics that are not split."""
    for mark in (*SEPARATORS, ","):
        matches = topics.filter(pc.fill_null(pc.match_substring(topics, mark), False))
        if len(matches):
            print(
                f"{file}: {len(matches):,} topics of {name} hold {mark!r}, e.g."
                f" {matches[0].as_py()!r}, and are not split there. Where they are several topics,"
                ' write them as a|b, or as a list, ["a", "b"].',
                flush=True,
            )
            return
