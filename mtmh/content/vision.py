"""The frozen visual backbone: any `transformers` vision model, unit length (paper section 4)."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from PIL import Image

from mtmh.content.backbone import pretrained
from mtmh.errors import UserError


@dataclass(frozen=True)
class Vision:
    """A visual backbone in two halves: `to_pixels` may run in any thread, `encode` runs the model."""

    to_pixels: Callable[[Image.Image], np.ndarray]  # an RGB image -> float32 [3, height, width]
    encode: Callable[
        [list[np.ndarray]], np.ndarray
    ]  # pixels of n images -> float32 [n, width], unit rows


def load_vision(backbone: str, device: torch.device) -> Vision:
    """Load a directory or hub id. Raises UserError when it cannot be loaded or holds no vision model.

    A model with a joint space of image and text (CLIP, SigLIP) gives its image features, as the paper's ViT-H/14 does;
    any other the mean over its patches, which every vision model has. Pillow resizes, on every machine alike.
    """
    from transformers import AutoImageProcessor, AutoModel

    load_processor = partial(AutoImageProcessor.from_pretrained, backend="pil")
    processor, model = pretrained(
        "content.visual_backbone", backbone, load_processor, AutoModel.from_pretrained
    )
    model = model.eval().to(device)
    if not hasattr(model, "get_image_features") and model.main_input_name != "pixel_values":
        raise UserError(
            f"content.visual_backbone {backbone!r} is no vision model: it reads {model.main_input_name}. Name one that"
            " reads images, such as a ViT or a CLIP."
        )

    def to_pixels(image: Image.Image) -> np.ndarray:
        return np.asarray(
            processor(images=image, return_tensors="np")["pixel_values"][0], dtype=np.float32
        )

    @torch.inference_mode()
    def encode(pixels: list[np.ndarray]) -> np.ndarray:
        if len({one.shape for one in pixels}) > 1:
            raise UserError(
                f"content.visual_backbone {backbone!r}: its processor makes images of different sizes, which cannot be"
                " batched. Set a fixed size (or a crop) in its preprocessor_config.json."
            )
        batch = torch.from_numpy(np.stack(pixels)).to(device, model.dtype)
        if hasattr(model, "get_image_features"):
            found = model.get_image_features(pixel_values=batch)
            pooled = found if isinstance(found, torch.Tensor) else found.pooler_output
        else:
            hidden = model(pixel_values=batch).last_hidden_state
            pooled = (
                hidden.mean(1) if hidden.dim() == 3 else hidden.mean((2, 3))
            )  # tokens, or a map of a convolution
        return torch.nn.functional.normalize(pooled.float(), dim=1).cpu().numpy()

    return Vision(to_pixels, encode)
