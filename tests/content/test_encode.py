"""The stage content without concepts: the real packaged backbone and its projection, on a handful
of texts.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.checkerboard import ITEMS, Stages

from mtmh.config import ContentSettings
from mtmh.content.backbones import identity, load_encoder, locate
from mtmh.content.encode import encode
from mtmh.content.encoder import ContentEncoder
from mtmh.content.features import Backbones
from mtmh.content.projection import project
from mtmh.errors import UserError

FOOD = [
    "Fresh bread from the oven",
    "Pizza with cheese and tomato",
    "Chocolate cake recipe",
    "Noodle soup for dinner",
]
CARS = [
    "Used sports car for sale",
    "Engine oil and brake repair",
    "Electric car with new battery",
    "Truck tires",
]
CPU = torch.device("cpu")
TITLES = [*FOOD, *CARS, FOOD[0], *["  "] * (ITEMS - 9)]


@pytest.fixture(scope="module")
def prepared(world: Stages, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small world with titles of two subjects: 0..3 food, 4..7 cars, 8 the same as 0, none from
    9 on.
    """
    folder = tmp_path_factory.mktemp("content") / "prepared"
    shutil.copytree(world.prepared, folder)
    write_titles(folder, TITLES)
    return folder


def write_titles(prepared: Path, titles: list[str]) -> None:
    items = pq.read_table(prepared / "items.parquet")
    items = items.set_column(items.column_names.index("title"), "title", pa.array(titles))
    pq.write_table(items, prepared / "items.parquet")


def run(prepared: Path, out: Path, cache: Path, **settings: object) -> np.ndarray:
    out.mkdir()
    encode(prepared, out, ContentSettings.model_validate(settings), cache, seed=0)
    return np.load(out / "content.npy")


def test_items_about_the_same_thing_are_close(prepared: Path, cache: Path, tmp_path: Path) -> None:
    vectors = run(prepared, tmp_path / "out", cache)
    assert vectors.shape == (ITEMS, ContentSettings().dim)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors[:9], axis=1), 1, rtol=1e-5)
    assert not vectors[9:].any()
    cosine = vectors[:8] @ vectors[:8].T
    same = np.add.outer(np.arange(8) // 4, np.arange(8) // 4) != 1
    assert cosine[same & ~np.eye(8, dtype=bool)].mean() > cosine[~same].mean() + 0.1
    np.testing.assert_allclose(vectors[8], vectors[0], atol=1e-6)
    told = json.loads((tmp_path / "out" / "content.json").read_text())
    assert (told["items"], told["with_text"]) == (ITEMS, 9)


def test_the_cache_changes_nothing_but_the_time(
    prepared: Path, cache: Path, tmp_path: Path
) -> None:
    first = run(prepared, tmp_path / "first", cache)
    shards = {path.name: path.stat().st_ino for path in cache.glob("*.npz")}
    np.testing.assert_array_equal(first, run(prepared, tmp_path / "second", cache))
    assert {path.name: path.stat().st_ino for path in cache.glob("*.npz")} == shards
    np.testing.assert_allclose(
        first, run(prepared, tmp_path / "afresh", tmp_path / "cache"), atol=1e-6
    )


def test_without_concepts_the_vectors_are_the_first_release_s_bit_for_bit(
    prepared: Path, cache: Path, tmp_path: Path
) -> None:
    """Release 0.1.0's arithmetic, written out: what the heads were tuned on does not move."""
    found = run(prepared, tmp_path / "out", cache)
    raw = Backbones("packaged", None, 64, 64, CPU, cache).texts(TITLES[:9])
    centred = raw.astype(np.float64) - raw.mean(axis=0, dtype=np.float64)
    _, components = np.linalg.eigh(centred.T @ centred)
    components = components[:, ::-1][:, :128]
    components *= np.sign(components[np.abs(components).argmax(axis=0), np.arange(128)])
    projected = centred @ components
    expected = (projected / np.linalg.norm(projected, axis=1, keepdims=True)).astype(np.float32)
    np.testing.assert_array_equal(found[:9], expected)


def test_new_items_are_encoded_without_training_too(
    prepared: Path, cache: Path, tmp_path: Path
) -> None:
    vectors = run(prepared, tmp_path / "out", cache)
    encoder = ContentEncoder.load(tmp_path / "out")
    np.testing.assert_allclose(
        encoder.encode([*TITLES[:3], None, " "]), vectors[[0, 1, 2, 9, 9]], atol=1e-5
    )
    new = encoder.encode(["Garlic bread and tomato soup"])[0]
    assert (vectors[:4] @ new).mean() > (vectors[4:8] @ new).mean() + 0.1


def test_topics_never_enter_the_text(prepared: Path, cache: Path, tmp_path: Path) -> None:
    before = run(prepared, tmp_path / "before", cache)
    other = shutil.copytree(prepared, tmp_path / "prepared")
    items = pq.read_table(other / "items.parquet")
    topics = pa.array([["Cars"]] * ITEMS)
    pq.write_table(
        items.set_column(items.column_names.index("l2_topics"), "l2_topics", topics),
        other / "items.parquet",
    )
    np.testing.assert_array_equal(before, run(other, tmp_path / "after", cache))


def test_a_catalog_without_any_text_gets_zero_rows(prepared: Path, tmp_path: Path) -> None:
    blank = shutil.copytree(prepared, tmp_path / "prepared")
    write_titles(blank, [""] * ITEMS)
    assert not run(blank, tmp_path / "out", tmp_path / "cache").any()


def test_a_vector_does_not_depend_on_its_batch() -> None:
    texts = [*FOOD, *CARS]
    together = load_encoder("packaged", 64, 8, CPU)(texts)
    alone = load_encoder("packaged", 64, 3, CPU)(texts[::-1])[::-1]
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)


def test_a_directory_with_other_weights_is_another_backbone(tmp_path: Path) -> None:
    """And a copy of the same one is not."""
    from transformers import BertConfig, BertModel

    names = []
    for seed, folder in enumerate((tmp_path / "one", tmp_path / "two")):
        shutil.copytree(
            locate("packaged"),
            folder,
            ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "config*"),
        )
        torch.manual_seed(seed)
        tiny = BertConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
        BertModel(tiny).save_pretrained(folder)
        names.append(identity(str(folder), 64))
    assert names[0] != names[1]
    assert load_encoder(str(folder), 64, 2, CPU)(["a text", "another", "one more"]).shape == (3, 16)
    assert identity(str(shutil.copytree(folder, tmp_path / "copy")), 64) == names[1]
    assert identity(str(folder), 32) != names[1]


def test_a_commit_of_the_hub_is_loaded_where_one_is_named(tmp_path: Path) -> None:
    """From the hub's own cache, as a run without network finds it."""
    from transformers import BertConfig, BertModel

    folder = tmp_path / "hub" / "models--team--tiny"
    for commit, width in (("a" * 40, 16), ("b" * 40, 32)):
        snapshot = folder / "snapshots" / commit
        shutil.copytree(
            locate("packaged"),
            snapshot,
            ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "config*"),
        )
        tiny = BertConfig(
            hidden_size=width, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
        BertModel(tiny).save_pretrained(snapshot)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("a" * 40)
    code = (
        "import sys, torch; from mtmh.content.backbones import load_encoder; "
        "print(*(load_encoder(name, 64, 2, torch.device('cpu'))(['a text']).shape[1]"
        " for name in sys.argv[1:]))"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code, "team/tiny", f"team/tiny@{'b' * 40}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["16", "32"], done.stderr


def test_a_backbone_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"content\.backbone .*empty' cannot be loaded"):
        load_encoder(str(tmp_path / "empty"), 64, 8, CPU)


def test_projection_keeps_neighbours_and_fixes_the_sign() -> None:
    raw = (
        np.random.default_rng(0).normal(size=(200, 30)).astype(np.float32)
        @ np.diag(0.7 ** np.arange(30))
        + 5
    )
    vectors, _, kept = project(raw.astype(np.float32), 12)
    assert kept > 0.99
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    centred = raw - raw.mean(axis=0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors @ vectors.T, centred @ centred.T, atol=0.05)
    moved, _, _ = project(
        (raw[::-1] * 3 + 7).astype(np.float32), 12
    )  # order, scale and place say nothing
    np.testing.assert_allclose(moved[::-1], vectors, atol=1e-3)


@pytest.mark.parametrize(("rows", "dim"), [(1, 4), (2, 4), (3, 40)])
def test_fewer_texts_than_dimensions(rows: int, dim: int) -> None:
    vectors, _, kept = project(
        np.random.default_rng(1).normal(size=(rows, 6)).astype(np.float32), dim
    )
    assert vectors.shape == (rows, dim)
    lengths = np.linalg.norm(vectors, axis=1)
    np.testing.assert_allclose(
        lengths, 0 if rows == 1 else 1, atol=1e-5
    )  # one lone text has no direction
    assert 0 <= kept <= 1 + 1e-9
