"""The type of the matrix products follows the setting, and "auto" the hardware."""

import pytest
import torch

from mtmh.device import pick_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("able", "expected"), [({"avx512_bf16": True}, torch.bfloat16), ({"avx2": True}, torch.float32)]
)
def test_auto_takes_bfloat16_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, able: dict[str, bool], expected: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able)
    assert pick_precision("auto", CPU) is expected
    assert pick_precision("float32", CPU) is torch.float32
    assert pick_precision("bfloat16", CPU) is torch.bfloat16
