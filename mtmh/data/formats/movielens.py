"""MovieLens (GroupLens): ratings.csv and movies.csv; keywords.csv or else tags.csv as concepts; posters.zip."""

from pathlib import Path
from zipfile import BadZipFile, ZipFile

import pyarrow as pa
import pyarrow.compute as pc

from mtmh.data.formats.form import REASON, Form, Source, as_source, present
from mtmh.data.formats.text import once, read_csv, unclosed_quote
from mtmh.data.typed import numbers, times
from mtmh.errors import UserError

CONCEPTS = {"keywords.csv": "concept", "tags.csv": "tag"}  # file -> its column; the first that is there
SOURCES = {"keywords.csv": "keyword", "tags.csv": "tag"}
POSTERS = "posters.zip"


def find(folder: Path) -> list[Path]:
    """Ratings, movies, and where they are there the first file of concepts and the posters."""
    ratings, movies = _perhaps_packed(folder, "ratings.csv"), _perhaps_packed(folder, "movies.csv")
    concepts = [path for name in CONCEPTS for path in _perhaps_packed(folder, name)]
    return ratings + movies + concepts[:1] + present(folder, POSTERS) if ratings and movies else []


def _perhaps_packed(folder: Path, name: str) -> list[Path]:
    """The file of that name, or else its .gz."""
    return present(folder, name) or present(folder, f"{name}.gz")


def read(paths: list[Path]) -> Source:
    """Genres are the only topics that MovieLens has: they stand at both levels, so that L1 and L2 relevance agree."""
    ratings_csv, movies_csv, *others = paths
    ratings = read_csv(ratings_csv, ["userId", "movieId", "rating", "timestamp"])
    movies = once(read_csv(movies_csv, ["movieId", "title", "genres"]), movies_csv)
    _check_quotes(movies, movies_csv)
    value, _ = numbers(ratings["rating"], f"{ratings_csv}: rating")
    moment, _ = times(ratings["timestamp"], f"{ratings_csv}: timestamp")
    genres = pc.split_pattern(movies["genres"], "|")
    genres = pc.if_else(pc.equal(movies["genres"], "(no genres listed)"), pa.scalar([], genres.type), genres)
    interactions = {
        "user_id": ratings["userId"],
        "item_id": ratings["movieId"],
        "timestamp": moment,
        "event": pa.repeat("rating", ratings.num_rows),
        "value": value,
        "rating.csv": ratings["rating"],  # as written, so that a rejected row can be found again
        "timestamp.csv": ratings["timestamp"],
        REASON: pc.coalesce(
            _reason(pc.is_null(value), "rating is not a number"),
            _reason(pc.is_null(moment), "timestamp is not a number"),
        ),
    }
    items = {"item_id": movies["movieId"], "title": movies["title"], "l1_topics": genres, "l2_topics": genres}
    files = {"interactions": [ratings_csv], "items": [movies_csv]}
    if others and others[-1].name == POSTERS:
        items["image_path"] = _posters(others.pop(), movies["movieId"])
    tables = {"interactions": pa.table(interactions), "items": pa.table(items)}
    for path in others:
        column = CONCEPTS[path.name.removesuffix(".gz")]
        concepts = read_csv(path, ["movieId", column])
        source = pa.repeat(SOURCES[path.name.removesuffix(".gz")], concepts.num_rows)
        tables["concepts"] = pa.table({"item_id": concepts["movieId"], "concept": concepts[column], "source": source})
        files["concepts"] = [path]
    return as_source(tables, files, frozenset({"rating.csv", "timestamp.csv"}))


def _check_quotes(movies: pa.Table, path: Path) -> None:
    """Raises UserError where a quote that is not closed made one movie of several lines."""
    quote = unclosed_quote(path)
    if quote and any(pc.any(pc.match_substring(column, "\n")).as_py() for column in movies.itercolumns()):
        raise UserError(
            f"{path}: line {quote[0]:,} has a quote that is not closed: {quote[1]}. Double it, or remove it."
        )


def _reason(bad: pa.ChunkedArray, reason: str) -> pa.ChunkedArray:
    return pc.if_else(bad, reason, pa.scalar(None, pa.string()))


def _posters(archive: Path, movies: pa.ChunkedArray) -> pa.Array:
    """`image_path` of each movie: the member of `archive` that is named by its movieId, null where there is none."""
    try:
        with ZipFile(archive) as opened:
            members = pa.array(opened.namelist(), pa.string())
    except BadZipFile as error:
        raise UserError(f"{archive} is not a readable zip archive ({error}). Download it anew, or remove it.") from None
    named = pc.replace_substring_regex(members, r"^(?:.*/)?([^/]+)\.\w+$", r"\1")
    paths = pc.binary_join_element_wise(archive.name, members, "/")
    return paths.take(pc.index_in(movies.combine_chunks(), value_set=named))


FORM = Form("MovieLens", "ratings.csv, movies.csv (also .gz)", find, read)
