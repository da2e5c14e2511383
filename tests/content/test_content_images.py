"""Images to vectors: decoded ahead of the model by other threads, cached by content, broken ones
counted and told.
"""

import threading
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    ResNetConfig,
    ResNetModel,
    ViTImageProcessor,
)

from mtmh.content.backbones import Vision, load_vision
from mtmh.content.images import ImageVectors, decode, encode_images
from mtmh.errors import UserError

CPU = torch.device("cpu")


def picture(
    colour: tuple[int, ...], form: str = "PNG", mode: str = "RGB", size: tuple[int, int] = (6, 9)
) -> bytes:
    stream = BytesIO()
    Image.new(mode, size, colour if len(colour) > 1 else colour[0]).save(stream, form)
    return stream.getvalue()


class MeanColour:
    """A backbone whose vectors are easy to know in advance; it counts what it is asked for and by
    whom.
    """

    def __init__(self) -> None:
        self.decoded, self.encoded, self.most_waiting = 0, 0, 0
        self.threads: set[str] = set()

    def load(self) -> Vision:
        return Vision(self.to_pixels, self.encode)

    def to_pixels(self, image: Image.Image) -> np.ndarray:
        self.decoded += 1
        self.threads.add(threading.current_thread().name)
        return np.asarray(image, np.float32)

    def encode(self, pixels: list[np.ndarray]) -> np.ndarray:
        self.most_waiting = max(self.most_waiting, self.decoded - self.encoded)
        self.encoded += len(pixels)
        return np.stack([one.mean(axis=(0, 1)) for one in pixels])


def run(
    paths: Sequence[str | None],
    root: Path,
    cache: Path | None,
    backbone: MeanColour,
    **changes: Any,
) -> ImageVectors:
    return encode_images(
        paths,
        root,
        **{"identity": "m", "cache": cache, "load": backbone.load, "batch_size": 4, **changes},
    )


def test_an_image_is_decoded_and_encoded_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture((250, 0, 0)))
    (tmp_path / "same.png").write_bytes(picture((250, 0, 0)))
    with ZipFile(tmp_path / "more.zip", "w") as archive:
        archive.writestr("b.png", picture((0, 250, 0)))
    first, second, third = MeanColour(), MeanColour(), MeanColour()
    paths = ["a.png", None, "more.zip/b.png", "same.png", "a.png", ""]
    found = run(paths, tmp_path, tmp_path / "cache", first)
    assert found.present.tolist() == [True, False, True, True, True, False]
    assert found.vectors.tolist() == [[250, 0, 0], [0, 250, 0], [250, 0, 0], [250, 0, 0]]
    assert first.decoded == 2
    (tmp_path / "moved.png").write_bytes((tmp_path / "a.png").read_bytes())
    again = run(["moved.png"], tmp_path, tmp_path / "cache", second)
    assert again.vectors.tolist() == [[250, 0, 0]]
    assert second.decoded == 0
    run(["a.png"], tmp_path, tmp_path / "cache", third, identity="another")
    assert third.decoded == 1


def test_decoding_runs_ahead_of_the_model_in_other_threads_but_not_far(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number}.png").write_bytes(picture((number, 0, 0)))
    backbone = MeanColour()
    found = run([f"{number}.png" for number in range(100)], tmp_path, None, backbone)
    assert found.vectors[:, 0].tolist() == list(range(100))
    assert threading.main_thread().name not in backbone.threads
    assert (
        backbone.most_waiting <= 3 * 4
    )  # two batches ahead, and the one that is being put together


def test_broken_and_missing_images_are_absent_counted_and_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = picture((10, 20, 30), "JPEG", size=(64, 64))
    (tmp_path / "good.jpg").write_bytes(whole)
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("this is no image")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "broken.zip").write_bytes(b"no archive")
    paths = ["cut.jpg", "good.jpg", "text.jpg", "gone.jpg", "empty.png", "broken.zip/a.png"]
    for _ in range(2):  # what is broken is told again when the rest comes from the cache
        found = run(paths, tmp_path, tmp_path / "cache", MeanColour())
        assert found.present.tolist() == [False, True, False, False, False, False]
        assert len(found.vectors) == 1
        assert {path: reason.partition(":")[0] for path, reason in found.unreadable.items()} == {
            "cut.jpg": "broken",
            "text.jpg": "not an image",
            "gone.jpg": "no such file",
            "empty.png": "not an image",
            "broken.zip/a.png": "broken",
        }
        capsys.readouterr()
        found.print_unreadable()
        told = capsys.readouterr().out
        assert "5 images cannot be read and count as absent" in told
        assert "2 not an image, e.g. " in told
        assert "1 no such file, e.g. gone.jpg" in told


def test_any_kind_of_image_becomes_rgb() -> None:
    kinds: list[tuple[str, str, tuple[int, ...]]] = [
        ("PNG", "L", (90,)),
        ("PNG", "RGBA", (9, 9, 9, 5)),
        ("GIF", "P", (3,)),
    ]
    for form, mode, colour in [
        *kinds,
        ("JPEG", "CMYK", (9, 9, 9, 9)),
        ("PNG", "1", (1,)),
        ("WEBP", "RGB", (9, 9, 9)),
    ]:
        image = decode(picture(colour, form, mode))
        assert (image.mode, image.size) == ("RGB", (6, 9))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(0)
    small = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = CLIPConfig(
        text_config={**small, "vocab_size": 50},
        vision_config={**small, "image_size": 16, "patch_size": 8},
        projection_dim=12,
    )
    CLIPModel(config).save_pretrained(folder)
    CLIPImageProcessor(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resnet")
    torch.manual_seed(0)
    ResNetModel(ResNetConfig(embedding_size=4, hidden_sizes=[4, 8], depths=[1, 1])).save_pretrained(
        folder
    )
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("name", "width"), [("vit", 32), ("clip", 12), ("resnet", 8)])
def test_any_vision_model_gives_unit_vectors(
    name: str, width: int, request: pytest.FixtureRequest
) -> None:
    vision = load_vision(str(request.getfixturevalue(name)), CPU)
    sizes = [
        (6, 9),
        (1, 1),
        (3, 3),
        (50, 3),
        (3, 50),
    ]  # three pixels high: not taken for three channels
    pictures = [decode(picture((200, 30, 90), size=size)) for size in sizes]
    pixels = [vision.to_pixels(image) for image in pictures]
    vectors = vision.encode(pixels)
    assert vectors.shape == (len(sizes), width)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(
        vectors[1:], vectors[[0]].repeat(4, axis=0), atol=1e-5
    )  # one colour, whatever the size
    alone = np.concatenate([vision.encode([one]) for one in pixels])
    np.testing.assert_allclose(alone, vectors, atol=1e-5)


def test_clip_gives_its_image_features(clip: Path) -> None:
    vision = load_vision(str(clip), CPU)
    pixels = vision.to_pixels(decode(picture((200, 30, 90))))
    model = CLIPModel.from_pretrained(clip)
    with torch.no_grad():
        batch = torch.from_numpy(pixels[None])
        features = model.visual_projection(model.vision_model(pixel_values=batch).pooler_output)
    expected = torch.nn.functional.normalize(features, dim=1)
    np.testing.assert_allclose(vision.encode([pixels]), expected.numpy(), atol=1e-6)


def test_a_visual_backbone_that_is_not_there_or_reads_text_is_named(
    tmp_path: Path, vit: Path
) -> None:
    from transformers import BertConfig, BertModel

    with pytest.raises(UserError, match=r"content\.visual_backbone .*nowhere' cannot be loaded"):
        load_vision(str(tmp_path / "nowhere"), CPU)
    tiny = BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
    )
    BertModel(tiny).save_pretrained(tmp_path)
    ViTImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="is no vision model: it reads input_ids"):
        load_vision(str(tmp_path), CPU)


def test_a_processor_without_a_fixed_size_is_explained(tmp_path: Path, vit: Path) -> None:
    vision = load_vision(str(vit), CPU)
    with pytest.raises(UserError, match="images of different sizes"):
        vision.encode([np.zeros((3, 16, 16), np.float32), np.zeros((3, 16, 24), np.float32)])
