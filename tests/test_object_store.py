"""Folders in a bucket of a real S3 server: whole, verified, and what is said where it fails."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.s3_server import reach, s3_server

from mtmh import object_store
from mtmh.errors import UserError


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, str]]]:
    """The folder of the buckets, of which there is one, and the environment of a client."""
    folder = tmp_path_factory.mktemp("s3")
    (folder / "bucket").mkdir()
    with s3_server(folder) as environment:
        yield folder, environment


@pytest.fixture
def bucket(
    server: tuple[Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, str]:
    """A folder of the test's own in the bucket, as the server keeps it and by its URL."""
    reach(monkeypatch, server[1])
    monkeypatch.setitem(object_store.RETRIES, "max_retries", 1)
    return server[0] / "bucket" / tmp_path.name, f"s3://bucket/{tmp_path.name}"


def write_folder(folder: Path) -> dict[str, str]:
    """Files of all sizes that matter; their checksums."""
    contents = {"a.txt": b"a", "empty": b"", "deep/er/b c.bin": b"b" * 12_000_000, "z.json": b"{}"}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def files(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_a_folder_comes_back_as_it_went(bucket: tuple[Path, str], tmp_path: Path) -> None:
    sums = write_folder(tmp_path / "mine")
    object_store.put(tmp_path / "mine", bucket[1])
    object_store.fetch(bucket[1], tmp_path / "back", sums)
    assert files(tmp_path / "back") == files(tmp_path / "mine") == files(bucket[0])
    object_store.remove(bucket[1], ["a.txt", "deep/er/b c.bin", "never there"])
    assert set(object_store.listed(bucket[1])) == {"empty", "z.json"}


def test_what_changed_underway_or_is_missing_is_not_taken(
    bucket: tuple[Path, str], tmp_path: Path
) -> None:
    sums = write_folder(tmp_path / "mine")
    object_store.put(tmp_path / "mine", bucket[1])
    (bucket[0] / "a.txt").write_bytes(b"b")
    with pytest.raises(UserError, match=f"{bucket[1]}/a.txt does not have its checksum"):
        object_store.fetch(bucket[1], tmp_path / "back", sums)
    assert not (tmp_path / "back" / "a.txt").exists()
    object_store.remove(bucket[1], ["a.txt"])
    with pytest.raises(UserError, match=f"{bucket[1]}/a.txt is missing"):
        object_store.fetch(bucket[1], tmp_path / "back", sums)


def test_the_fingerprint_is_that_of_the_content(bucket: tuple[Path, str], tmp_path: Path) -> None:
    write_folder(tmp_path / "mine")
    object_store.put(tmp_path / "mine", bucket[1])
    before = object_store.fingerprint(bucket[1])
    assert object_store.fingerprint(f"{bucket[1]}/") == before
    object_store.write(f"{bucket[1]}/a.txt", b"b")
    assert object_store.fingerprint(bucket[1]) != before


@pytest.mark.parametrize(
    ("variables", "place", "message"),
    [
        ({}, "s3://no-bucket/mine", "there is no such bucket: make it, or mend its name"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "", "the server refuses the key: AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "wrong"}, "", "the server refuses the key: AWS_ACCESS_KEY_ID"),
        (
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"},
            "",
            "the server does not answer: is AWS_ENDPOINT_URL right",
        ),
        (
            {"AWS_ENDPOINT_URL": "http://nowhere.invalid"},
            "",
            "the server does not answer: is AWS_ENDPOINT_URL right",
        ),
        ({}, "ftp://host/mine", "no such kind of store. Write s3://, gs://, az://, or a path"),
    ],
)
def test_what_is_wrong_with_the_store_is_said_with_its_url(
    bucket: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    place: str,
    message: str,
) -> None:
    url = place or bucket[1]
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    write_folder(tmp_path / "mine")
    calls = (
        lambda: object_store.is_url(url) and object_store.put(tmp_path / "mine", url),
        lambda: object_store.is_url(url) and object_store.fetch(url, tmp_path / "back"),
        lambda: object_store.is_url(url) and object_store.read(f"{url}/champion"),
    )
    for call in calls:
        with pytest.raises(UserError) as refused:
            call()
        assert str(refused.value).startswith(url)
        assert message in str(refused.value)


def test_a_server_without_room_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was there stays as it was, and the manifest of a folder of which a part is missing
    does not come.
    """
    (tmp_path / "s3" / "bucket").mkdir(parents=True)
    monkeypatch.setitem(object_store.RETRIES, "max_retries", 0)
    with s3_server(tmp_path / "s3", "prlimit", "--fsize=1000000") as environment:
        reach(monkeypatch, environment)
        object_store.write("s3://bucket/file", b"before")
        for size in (2_000_000, 20_000_000):
            with pytest.raises(UserError, match="s3://bucket/file: the server cannot take"):
                object_store.write("s3://bucket/file", b"x" * size)
        write_folder(tmp_path / "mine")
        with pytest.raises(UserError, match=r"b c\.bin: the server cannot take"):
            object_store.put(tmp_path / "mine", "s3://bucket/mine", last="a.txt")
        assert "a.txt" not in object_store.listed("s3://bucket/mine")


def test_a_path_is_none_of_its_business(tmp_path: Path) -> None:
    assert not object_store.is_url("/data/mine")
    with object_store.as_folder(str(tmp_path)) as folder:
        assert folder == tmp_path
