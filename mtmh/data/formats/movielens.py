"""MovieLens (GroupLens): ratings.csv and movies.csv; keywords.csv or else tags.csv as concepts;
posters.zip.
"""

from pathlib import Path
from zipfile import BadZipFile, ZipFile

import pyarrow as pa
import pyarrow.compute as pc

from mtmh.data.formats.format import REASON, Format, SourceTables, matching_files, source_tables
from mtmh.data.formats.text import drop_duplicates, read_csv, unclosed_quote
from mtmh.data.typed import numbers, times
from mtmh.errors import UserError

CONCEPTS = {"keywords.csv": "concept", "tags.csv": "tag"}  # file -> its column; the first is read
SOURCES = {"keywords.csv": "keyword", "tags.csv": "tag"}
POSTERS = "posters.zip"


def find(folder: Path) -> list[Path]:
    """Ratings and movies; then the first file of concepts and the posters, where there are any."""
    ratings = _perhaps_packed(folder, "ratings.csv")
    movies = _perhaps_packed(folder, "movies.csv")
    if not ratings or not movies:
        return []
    concepts = [path for name in CONCEPTS for path in _perhaps_packed(folder, name)]
    return ratings + movies + concepts[:1] + matching_files(folder, POSTERS)


def _perhaps_packed(folder: Path, name: str) -> list[Path]:
    """The file of that name, or else its .gz."""
    return matching_files(folder, name) or matching_files(folder, f"{name}.gz")


def read(paths: list[Path]) -> SourceTables:
    """Genres are the only topics: they stand at both levels, so L1 and L2 relevance agree."""
    ratings_csv, movies_csv, *others = paths
    ratings = read_csv(ratings_csv, ["userId", "movieId", "rating", "timestamp"])
    # A rating is an interaction; where one cannot be read, the row says why.
    value, _ = numbers(ratings["rating"], f"{ratings_csv}: rating")
    time, _ = times(ratings["timestamp"], f"{ratings_csv}: timestamp")
    no_value, no_time = "rating is not a number", "timestamp is not a number"
    reason = pc.if_else(pc.is_null(time), no_time, pa.scalar(None, pa.string()))
    interactions = {
        "user_id": ratings["userId"],
        "item_id": ratings["movieId"],
        "timestamp": time,
        "event": pa.repeat("rating", ratings.num_rows),
        "value": value,
        "rating.csv": ratings["rating"],  # as written, so that a rejected row can be recognized
        "timestamp.csv": ratings["timestamp"],
        REASON: pc.if_else(pc.is_null(value), no_value, reason),
    }
    # The posters are the last of the others, and the rest is concepts.
    posters = others.pop() if others and others[-1].name == POSTERS else None
    tables = {"interactions": pa.table(interactions), "items": _read_movies(movies_csv, posters)}
    files = {"interactions": [ratings_csv], "items": [movies_csv]}
    for path in others:
        name = path.name.removesuffix(".gz")
        concepts = read_csv(path, ["movieId", CONCEPTS[name]])
        columns = {
            "item_id": concepts["movieId"],
            "concept": concepts[CONCEPTS[name]],
            "source": pa.repeat(SOURCES[name], concepts.num_rows),
        }
        tables["concepts"] = pa.table(columns)
        files["concepts"] = [path]
    return source_tables(tables, files, frozenset({"rating.csv", "timestamp.csv"}))


def _read_movies(path: Path, posters: Path | None) -> pa.Table:
    """The items; `image_path` is the member of the archive `posters` named by the movieId, or null.

    Raises UserError where a quote that is not closed made one movie of several lines.
    """
    movies = drop_duplicates(read_csv(path, ["movieId", "title", "genres"]), path)
    # Titles are of one line: a line break in one is behind a quote that was left open.
    quote = unclosed_quote(path)
    if quote:
        breaks = [pc.any(pc.match_substring(column, "\n")) for column in movies.itercolumns()]
        if any(has_break.as_py() for has_break in breaks):
            number, text = quote
            raise UserError(
                f"{path}: line {number:,} has a quote that is not closed: {text}. Double it, or"
                " remove it."
            )
    genres = pc.split_pattern(movies["genres"], "|")
    no_genres = pc.equal(movies["genres"], "(no genres listed)")
    genres = pc.if_else(no_genres, pa.scalar([], genres.type), genres)
    columns = [movies["movieId"], movies["title"], genres, genres]
    items = pa.table(columns, ["item_id", "title", "l1_topics", "l2_topics"])
    if posters is None:
        return items
    try:
        with ZipFile(posters) as opened:
            members = pa.array(opened.namelist(), pa.string())
    except BadZipFile as error:
        raise UserError(
            f"{posters} is not a readable zip archive ({error}). Download it anew, or remove it."
        ) from None
    named = pc.replace_substring_regex(members, r"^(?:.*/)?([^/]+)\.\w+$", r"\1")
    row = pc.index_in(items["item_id"].combine_chunks(), value_set=named)
    paths = pc.binary_join_element_wise(posters.name, members, "/")
    return items.append_column("image_path", paths.take(row))


FORMAT = Format("MovieLens", "ratings.csv, movies.csv (also .gz)", find, read)
