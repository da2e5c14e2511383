"""The stage content with concepts and images, from the user's folder to vectors, and the encoder it
leaves.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from helpers.small_catalog import CORRUPT, EACH, NEITHER, NO_IMAGE, NO_TEXT, MakeCatalog, subject_of

from mtmh.config import ContentSettings, RetrievalSettings
from mtmh.content.concepts import read_concepts
from mtmh.content.encode import encode
from mtmh.content.encoder import ContentEncoder
from mtmh.data.prepared import Prepared
from mtmh.errors import UserError
from mtmh.model.two_heads import TwoHeads
from mtmh.retrieval.intake import Intake

ITEMS = 4 * EACH
PLACE = np.arange(ITEMS) % EACH
QUICK = {"epochs": 4, "hidden": 16, "batch_size": 32, "tau": 0.2}


def run(prepared: Path, out: Path, cache: Path, seed: int = 0, **settings: Any) -> np.ndarray:
    out.mkdir(exist_ok=True)
    chosen = ContentSettings.model_validate(
        {"dim": 16, "device": "cpu", "concepts": QUICK, **settings}
    )
    encode(prepared, out, chosen, cache, seed)
    return np.load(out / "content.npy")


def told(out: Path) -> dict[str, Any]:
    figures: dict[str, Any] = json.loads((out / "content.json").read_text())
    return figures


def likeness(vectors: np.ndarray) -> float:
    """How much closer items of one subject are to each other than to the others, by mean cosine."""
    rows = np.flatnonzero(vectors.any(axis=1))
    cosine = vectors[rows] @ vectors[rows].T
    same = subject_of(rows)[:, None] == subject_of(rows)
    return float(cosine[same & ~np.eye(len(rows), dtype=bool)].mean() - cosine[~same].mean())


def test_concepts_bring_items_of_a_subject_together(
    make_catalog: MakeCatalog, cache: Path, tmp_path: Path
) -> None:
    prepared = make_catalog(images=False)
    before = run(prepared, tmp_path / "before", cache, concepts={"train": False})
    after = run(prepared, tmp_path / "after", cache)
    assert likeness(after) > likeness(before) + 0.1
    figures = told(tmp_path / "after")
    assert figures["trained"]
    assert figures["concepts"] == {
        "pairs": 2 * (ITEMS - 8),  # four items have no title in each of two places
        "items": ITEMS - 8,
        "names": 12,
        "rows": {"query": 2 * ITEMS},
        "left_out_as_topics": 1,
    }
    assert (
        figures["curve"][figures["best_epoch"]]["held_out_loss"]
        < figures["curve"][0]["held_out_loss"]
    )
    assert not told(tmp_path / "before")["trained"]


def test_the_same_inputs_give_the_same_vectors_and_another_seed_others(
    make_catalog: MakeCatalog, cache: Path, tmp_path: Path, vit: Path
) -> None:
    prepared = make_catalog()
    settings: dict[str, Any] = {"visual_backbone": str(vit)}
    first = run(prepared, tmp_path / "first", cache, **settings)
    np.testing.assert_array_equal(first, run(prepared, tmp_path / "second", cache, **settings))
    assert not np.allclose(first, run(prepared, tmp_path / "other", cache, seed=1, **settings))


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("modalities", [["text"], ["image"], ["text", "image"]])
def test_an_item_needs_one_modality_and_has_a_zero_row_without_any(
    make_catalog: MakeCatalog,
    cache: Path,
    tmp_path: Path,
    vit: Path,
    capsys: pytest.CaptureFixture[str],
    modalities: list[str],
    train: bool,
) -> None:
    concepts = {**QUICK, "train": train}
    prepared = make_catalog()
    settings: dict[str, Any] = {
        "visual_backbone": str(vit),
        "modalities": modalities,
        "concepts": concepts,
    }
    vectors = run(prepared, tmp_path / "out", cache, **settings)
    no_text, no_image = (
        np.isin(PLACE, (NO_TEXT, NEITHER)),
        np.isin(PLACE, (NO_IMAGE, NEITHER, CORRUPT)),
    )
    absent = {"text": no_text, "image": no_image}
    nothing = np.logical_and.reduce([absent[name] for name in modalities])
    np.testing.assert_array_equal(~vectors.any(axis=1), nothing)
    np.testing.assert_allclose(np.linalg.norm(vectors[~nothing], axis=1), 1, rtol=1e-5)
    figures = told(tmp_path / "out")
    assert figures["without_content"] == nothing.sum()
    shown = capsys.readouterr().out
    assert f"{nothing.sum()} have nothing to encode and get a zero vector" in shown
    if "text" in modalities:
        assert figures["with_text"] == (~no_text).sum()
    if "image" in modalities:
        assert (figures["with_image"], figures["unreadable_images"]) == ((~no_image).sum(), 4)
        assert "4 images cannot be read and count as absent: 4 broken, e.g. images/" in shown


def test_an_image_that_cannot_be_read_is_the_same_as_none(
    make_catalog: MakeCatalog, cache: Path, tmp_path: Path, vit: Path
) -> None:
    prepared = make_catalog()
    first = run(prepared, tmp_path / "first", cache, visual_backbone=str(vit))
    for number in np.flatnonzero(PLACE == CORRUPT):
        (tmp_path / "source" / "images" / f"{number}.png").unlink()
    np.testing.assert_array_equal(
        first, run(prepared, tmp_path / "second", cache, visual_backbone=str(vit))
    )


def test_a_saved_encoder_gives_the_same_vectors(
    make_catalog: MakeCatalog, cache: Path, tmp_path: Path, vit: Path
) -> None:
    prepared = make_catalog()
    vectors = run(prepared, tmp_path / "out", cache, visual_backbone=str(vit))
    items = Prepared.load(prepared).items
    encoder = ContentEncoder.load(tmp_path / "out", device="cpu")
    paths = items["image_path"].to_pylist()
    again = encoder.encode(items["title"].to_pylist(), paths, tmp_path / "source")
    np.testing.assert_allclose(again, vectors, atol=1e-5)
    text_alone = encoder.encode(["bread and pizza", None])
    assert text_alone[0] @ vectors[:EACH].mean(axis=0) > text_alone[0] @ vectors[
        EACH : 2 * EACH
    ].mean(axis=0)
    assert not text_alone[1].any()
    with pytest.raises(UserError, match="1 texts and 2 images"):
        encoder.encode(["bread"], [None, None])


def test_an_encoder_without_images_says_so(
    make_catalog: MakeCatalog, cache: Path, tmp_path: Path
) -> None:
    run(make_catalog(), tmp_path / "out", cache)
    with pytest.raises(UserError, match="made without images"):
        ContentEncoder.load(tmp_path / "out").encode(["bread"], ["a.png"])
    with pytest.raises(UserError, match=r"holds no content_encoder\.json"):
        ContentEncoder.load(tmp_path)


def test_an_encoder_refuses_a_backbone_it_was_not_made_with(
    make_catalog: MakeCatalog, cache: Path, tmp_path: Path, vit: Path
) -> None:
    own = shutil.copytree(vit, tmp_path / "vit")
    run(make_catalog(), tmp_path / "out", cache, visual_backbone=str(own))
    weights = (own / "model.safetensors").read_bytes()
    (own / "model.safetensors").write_bytes(weights[:-4] + bytes(4))
    with pytest.raises(UserError, match=r"image backbone .* is not there, or not the one"):
        ContentEncoder.load(tmp_path / "out")


def test_images_are_read_once(make_catalog: MakeCatalog, tmp_path: Path, vit: Path) -> None:
    prepared = make_catalog()
    first = run(prepared, tmp_path / "first", tmp_path / "cache", visual_backbone=str(vit))
    shards = {path: path.stat().st_ino for path in (tmp_path / "cache").rglob("*.npz")}
    assert any(path.parent.name == "images" for path in shards)
    np.testing.assert_array_equal(
        first, run(prepared, tmp_path / "again", tmp_path / "cache", visual_backbone=str(vit))
    )
    assert {path: path.stat().st_ino for path in (tmp_path / "cache").rglob("*.npz")} == shards


def test_too_few_items_with_concepts_are_told_and_not_trained_on(
    make_catalog: MakeCatalog, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(make_catalog(items=20), tmp_path / "out", cache)
    assert "18 items with content have concepts, 50 are needed" in capsys.readouterr().out
    assert not told(tmp_path / "out")["trained"]


def test_a_visual_backbone_without_images_is_told(
    make_catalog: MakeCatalog,
    cache: Path,
    tmp_path: Path,
    vit: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    prepared = make_catalog(images=False)
    run(prepared, tmp_path / "out", cache, visual_backbone=str(vit))
    assert "no item has an image_path" in capsys.readouterr().out
    with pytest.raises(
        UserError,
        match=r"content\.modalities is \[image\], but there is no content\.visual_backbone",
    ):
        run(prepared, tmp_path / "out", cache, modalities=["image"])


def test_a_folder_without_its_images_is_an_error(
    make_catalog: MakeCatalog, cache: Path, tmp_path: Path, vit: Path
) -> None:
    prepared = make_catalog()
    shutil.rmtree(tmp_path / "source" / "images")
    with pytest.raises(UserError, match=r"none of the 72 images can be read.*relative to .*source"):
        run(prepared, tmp_path / "out", cache, visual_backbone=str(vit))


def test_the_quality_check_can_stop_the_stage(
    make_catalog: MakeCatalog, cache: Path, tmp_path: Path
) -> None:
    prepared = make_catalog(concepts=False, images=False)
    with pytest.raises(UserError, match=r"below content\.quality\.min_auc 1\.0"):
        run(prepared, tmp_path / "out", cache, quality={"min_auc": 1.0, "below": "stop"})
    run(prepared, tmp_path / "out", cache, quality={"min_auc": 1.0})
    assert 0.5 < told(tmp_path / "out")["quality"]["auc"] < 1


def test_concepts_are_read_once_each_and_never_the_name_of_a_topic(
    make_catalog: MakeCatalog,
) -> None:
    data = Prepared.load(make_catalog(images=False))
    found = read_concepts(data)
    assert found.names == sorted(set(found.names))
    assert "cars" not in found.names
    assert found.topic_rows == 1
    table = data.concepts().to_pylist()
    pairs = {
        (row["item"], row["concept"]): row["weight"] for row in table if row["source"] == "query"
    }
    named = zip(found.item.tolist(), (found.names[place] for place in found.concept), strict=True)
    assert dict(zip(named, found.weight, strict=True)) == pairs
    kept = found.of_items(np.arange(ITEMS) < 3)
    assert set(kept.item) == {0, 1, 2}
    assert kept.names == found.names
    assert found.left_out == {}
    without = read_concepts(data, ["query"])
    assert (len(without.item), without.topic_rows) == (0, 1)
    assert without.left_out == {"query": 2 * ITEMS}


def test_a_source_left_out_teaches_nothing_and_is_told(
    make_catalog: MakeCatalog, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared = make_catalog(images=False)
    table = pq.read_table(prepared / "concepts.parquet")
    entities = pa.repeat(pa.scalar("entity"), table.num_rows)
    pq.write_table(
        table.set_column(table.column_names.index("source"), "source", entities),
        prepared / "concepts.parquet",
    )
    left = run(prepared, tmp_path / "left", cache)
    assert not told(tmp_path / "left")["trained"]
    assert f"concepts are left out: {table.num_rows} of source entity" in capsys.readouterr().out
    np.testing.assert_array_equal(
        left, run(prepared, tmp_path / "none", cache, concepts={"train": False})
    )
    run(prepared, tmp_path / "taught", cache, concepts={**QUICK, "leave_out": []})
    assert told(tmp_path / "taught")["trained"]


def test_new_items_are_encoded_as_those_of_the_training_were(
    make_catalog: MakeCatalog, cache: Path, tmp_path: Path, vit: Path
) -> None:
    vectors = run(make_catalog(), tmp_path / "out", cache, visual_backbone=str(vit))
    source = tmp_path / "source"
    nothing = torch.zeros(0)
    model = TwoHeads([2], [4], nothing, nothing, [4], 4)  # knows one item's id, and no numbers
    encoder = ContentEncoder.load(tmp_path / "out", "cpu", cache)
    intake = Intake(
        encoder, 16, model, {"item_id": ["i00"]}, {}, 0.1, RetrievalSettings(), 0, source
    )
    encoded = intake.encode(intake.check(pq.read_table(source / "items.parquet")))
    np.testing.assert_allclose(encoded.content, vectors, atol=1e-5)
    np.testing.assert_array_equal(encoded.has_features, PLACE != NEITHER)
    np.testing.assert_array_equal(
        encoded.ids, 0
    )  # nobody has engaged with them, whatever their ids
