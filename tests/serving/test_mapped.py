"""What serves maps its files: one copy of them in memory, however many processes read them."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from helpers.asking import Serving
from hypothesis import given
from hypothesis import strategies as st

from mtmh.errors import UserError
from mtmh.retrieval.channels import channels_in
from mtmh.retrieval.index import build_index
from mtmh.retrieval.version import write_manifest
from serving.triton.backend.mapped import ItemRows, id_hashes, index_of
from serving.triton.export import write_package
from serving.triton.store import install, verify

SHARED = ["donors.faiss", "donors.npy", "id_hashes.npy", "id_rows.npy", "weights/table.0.npy"]


def mapped_inodes(pid: int) -> set[int]:
    """Of the files that process `pid` has mapped."""
    return {int(line.split()[4]) for line in Path(f"/proc/{pid}/maps").read_text().splitlines()}


def test_models_map_their_files_and_both_heads_the_same_ones(serving: Serving) -> None:
    processes = psutil.Process(serving.triton.pid).children(recursive=True)
    inodes = [mapped_inodes(process.pid) for process in processes]
    for head in ("engagement", "relevance"):
        folder = serving.store / "models" / f"{head}_1" / "1"
        for name in ("vectors.npy", "index.faiss"):
            inode = (folder / name).stat().st_ino
            assert sum(inode in mapped for mapped in inodes) == 1, name
        for name in SHARED:
            inode = (folder / name).stat().st_ino
            assert sum(inode in mapped for mapped in inodes) == 2, name
    table = serving.store / "models" / "preranker_1" / "1" / "weights" / "table.past.npy"
    assert sum(table.stat().st_ino in mapped for mapped in inodes) == 1


def test_what_both_heads_read_is_one_file_in_the_store(
    package_of: Callable[[str], Path], tmp_path: Path
) -> None:
    """Also where the package comes from a store that knows no links."""
    package = shutil.copytree(package_of("1"), tmp_path / "package")
    install(package, tmp_path / "store")
    models = tmp_path / "store" / "models"
    for name in SHARED:
        engagement, relevance = (
            models / f"{h}_1" / "1" / name for h in ("engagement", "relevance")
        )
        assert os.path.samefile(engagement, relevance)
    own = (models / f"{head}_1" / "1" / "vectors.npy" for head in ("engagement", "relevance"))
    assert not os.path.samefile(*own)
    assert verify(tmp_path / "store", "1") == json.loads((package / "manifest.json").read_text())


def test_a_mapped_index_answers_to_the_bit_as_a_read_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3000, 24)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    exact = faiss.IndexFlatIP(24)
    exact.add(vectors)
    for index in (build_index(vectors, 100, 0.9, seed=0)[0], exact):
        path = tmp_path / "some.index"
        faiss.write_index(index, str(path))
        for mine, other in zip(
            index_of(path).search(vectors[:200], 101),
            faiss.read_index(str(path)).search(vectors[:200], 101),
            strict=True,
        ):
            np.testing.assert_array_equal(mine, other)


@given(st.lists(st.text(), min_size=1, unique=True), st.lists(st.text()))
def test_rows_of_ids_are_those_of_a_dict(item_ids: list[str], others: list[str]) -> None:
    names = [name.encode(errors="surrogatepass") for name in item_ids]
    hashes = id_hashes(names)
    order = np.argsort(hashes)
    rows = ItemRows(hashes[order], order.astype(np.int32))
    row_of = {name: row for row, name in enumerate(names)}
    asked = names[::-1] + [name.encode(errors="surrogatepass") for name in others]
    assert rows.of(asked).tolist() == [row_of.get(name, -1) for name in asked]
    assert rows.of([]).tolist() == []


def test_two_items_that_serving_cannot_tell_apart_are_not_packaged(
    run_of: Callable[[str], Path], tmp_path: Path
) -> None:
    retriever = shutil.copytree(run_of("3") / "retriever", tmp_path / "retriever")
    items = pq.read_table(retriever / "items.parquet")
    ids = items["item_id"].to_pylist()
    ids[4] = ids[9]
    at = items.column_names.index("item_id")
    pq.write_table(items.set_column(at, "item_id", [ids]), retriever / "items.parquet")
    manifest = json.loads((retriever / "manifest.json").read_text())
    write_manifest(retriever, manifest["created_from"], channels_in(manifest))
    with pytest.raises(UserError, match=f"the item ids '{ids[9]}' and '{ids[9]}' are the same"):
        write_package(retriever, "3", tmp_path / "package")
