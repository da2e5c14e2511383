"""Where tensors are computed."""

import torch

from mtmh.errors import UserError


def pick_device(name: str, setting: str) -> torch.device:
    """ "auto" is cuda where there is one. Raises UserError naming `setting` when cuda is asked for and not there."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{setting} is 'cuda', but torch sees no GPU here; write auto or cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
