"""The small catalog, prepared, and a small visual backbone with random weights."""

from pathlib import Path

import pytest
import torch
from helpers.small_catalog import EACH, MakeCatalog, write_catalog
from transformers import ViTConfig, ViTImageProcessor, ViTModel
from transformers.utils import logging

from mtmh.config import DataSettings
from mtmh.data.prepare import prepare


@pytest.fixture(scope="session")
def vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ViT with random weights for images of 16 x 16, as a Hugging Face directory."""
    folder = tmp_path_factory.mktemp("vit")
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    torch.manual_seed(0)
    shape = ViTConfig(
        image_size=16,
        patch_size=8,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
    )
    ViTModel(shape).save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Backbone vectors, shared by all tests of the room that do not look at the cache itself."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def make_catalog(tmp_path: Path) -> MakeCatalog:
    """Write the catalog as a user would bring it, prepare it, and return the prepared directory."""

    def make(concepts: bool = True, images: bool = True, items: int = 4 * EACH) -> Path:
        source = tmp_path / "source"
        write_catalog(source, concepts, images, items)
        prepare(str(source), tmp_path / "prepared", DataSettings(), seed=0)
        return tmp_path / "prepared"

    return make
