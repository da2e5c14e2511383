"""Where and how precisely tensors are computed."""

import torch

from mtmh.errors import UserError


def pick_device(name: str, setting: str) -> torch.device:
    """ "auto" is cuda where there is one. Raises UserError naming `setting` when
    cuda is asked for and not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise UserError(f"{setting} is 'cuda', but torch sees no GPU here; write auto or cpu.")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def pick_precision(name: str, device: torch.device) -> torch.dtype:
    """The type of matrix products: "auto" is bfloat16 where `device` multiplies
    it faster than float32.
    """
    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = torch.cpu.get_capabilities()
        fast = bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return torch.bfloat16 if fast else torch.float32
