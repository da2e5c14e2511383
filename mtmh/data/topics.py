"""Topics that are written as one text ("a|b", "['a', 'b']") as lists of topics, and how they were split is said."""

import ast
import json

import pyarrow as pa
import pyarrow.compute as pc

from mtmh.errors import UserError

SEPARATORS = ("|", ";")  # in the order in which they are tried; in a list of one text, "|" alone
LIST = r"(?s)^\s*\[.*\]\s*$"
ENTITY = r"&#?\w+;"  # of HTML, such as &amp;: no separator
UNSEPARATED = r"""['"]\s+['"]"""  # numpy's ['a' 'b']


def as_topics(values: pa.ChunkedArray, name: str, file: str) -> pa.ChunkedArray:
    """A column of text, or of lists of one text, as lists. Lists of more than one topic stay as they are.

    Raises UserError when a text looks like a list and is none.
    """
    if not _is_text(values.type):
        lists = values.cast(pa.list_(pa.string()))
        text = pc.list_element(_padded(lists), 0)
        several = pc.any(pc.greater(pc.list_value_length(lists), 1)).as_py()
        if several or not _written_as_one(text):
            _hint(pc.list_flatten(lists), name, file)
            return lists
    else:
        text = values.cast(pa.string())
    text = pc.if_else(
        pc.equal(pc.utf8_trim_whitespace(text), ""), pa.scalar(None, pa.string()), text
    )
    different = pc.unique(text).drop_null()
    topics, manner = _split(different, name, file)
    example = next(
        (
            f", e.g. {text!r} is {row}"
            for text, row in zip(different.to_pylist(), topics, strict=True)
        ),
        "",
    )
    print(f"{file}: {name} is text, read as lists {manner}{example}", flush=True)
    lists = pa.array(topics, pa.list_(pa.string())).take(
        pc.index_in(text, value_set=different).combine_chunks()
    )
    return pa.chunked_array([lists])


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _padded(lists: pa.ChunkedArray) -> pa.ChunkedArray:
    """An empty list has no first element: it is null instead."""
    return pc.if_else(
        pc.greater(pc.list_value_length(lists), 0), lists, pa.scalar(None, lists.type)
    )


def _written_as_one(text: pa.ChunkedArray) -> bool:
    listed = pc.all(pc.match_substring_regex(text, LIST), min_count=1).as_py()
    return bool(listed) or _separator(text) == SEPARATORS[0]


def _separator(text: pa.ChunkedArray | pa.Array) -> str | None:
    plain = pc.replace_substring_regex(text, ENTITY, "")
    present = [mark for mark in SEPARATORS if pc.any(pc.match_substring(plain, mark)).as_py()]
    return present[0] if present else None


def _split(different: pa.Array, name: str, file: str) -> tuple[list[list[str]], str]:
    """The topics of each different text, and how they were split, in words."""
    if len(different) and pc.all(pc.match_substring_regex(different, LIST)).as_py():
        return [_parsed(text, name, file) for text in different.to_pylist()], "written out"
    separator = _separator(different)
    if separator is None:
        _hint(different, name, file)
        return [[text] for text in different.to_pylist()], "of one topic each"
    words = [[word.strip() for word in text.split(separator)] for text in different.to_pylist()]
    return [[word for word in row if word] for row in words], f"separated by {separator!r}"


def _parsed(text: str, name: str, file: str) -> list[str]:
    try:
        topics = json.loads(text)
    except ValueError:
        try:
            topics = (
                None
                if pc.match_substring_regex(text, UNSEPARATED).as_py()
                else ast.literal_eval(text)
            )
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            topics = None
    if not isinstance(topics, list):
        raise UserError(
            f'{file}: {name} has {text[:200]}, which is no list. Write ["a", "b"], or a|b.'
        )
    return [str(topic) for topic in topics if topic is not None]


def _hint(topics: pa.Array | pa.ChunkedArray, name: str, file: str) -> None:
    """Say which separators stand in topics that are not split."""
    for mark in (*SEPARATORS, ","):
        seen = topics.filter(pc.fill_null(pc.match_substring(topics, mark), False))
        if len(seen):
            print(
                f"{file}: {len(seen):,} topics of {name} hold {mark!r}, e.g. {seen[0].as_py()!r}, and are not split"
                f' there. Where they are several topics, write them as a|b, or as a list, ["a", "b"].',
                flush=True,
            )
            return
