"""Text from data (titles, topics, ids, names) as people see it: on pages, in
pictures, in a terminal, in a log.
"""

from typing import Any

# Control characters, ends of lines and paragraphs, and halves of surrogate pairs.
CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0xD800, 0xE000))
# Of no width, or turning the direction of reading. The joiners 200C and 200D are not among
# them: scripts and emoji are written with them.
INVISIBLE = (
    0x061C,
    0x180E,
    *range(0x200B, 0x200C),
    0x200E,
    0x200F,
    *range(0x202A, 0x202F),
    0x2060,
    0xFEFF,
)
ISOLATES = range(0x2066, 0x206A)
# Written as JSON writes them, so that a line of JSON stays one.
ESCAPES = {code: f"\\u{code:04x}" for code in (*CONTROLS, *INVISIBLE, *ISOLATES)}
LINES = {code: escape for code, escape in ESCAPES.items() if code != ord("\n")}


def visible(text: str, most: int | None = None) -> str:
    """The text in one line: what controls a terminal or turns the direction of
    reading is written as `\\u202e`.

    Longer than `most` characters, it is cut and ends with an ellipsis.
    """
    text = text.translate(ESCAPES)
    return text if most is None or len(text) <= most else text[: most - 1] + "\u2026"


def visible_lines(text: str) -> str:
    """As `visible`, for texts of several lines: line ends stay."""
    return text.translate(LINES)


def finalize(value: Any) -> Any:
    """What a template writes of a value, its `finalize`: plain text as
    `visible_lines`, all else as it is.
    """
    return visible_lines(value) if type(value) is str else value
