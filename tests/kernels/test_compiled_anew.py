"""The first run on a machine compiles the kernels, the next ones read them: the same bits."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
# A head's losses and gradient, as training calls them; prints a digest of all three.
SCRIPT = """
import hashlib, torch
from mtmh.data.sampler import Batch
from mtmh.kernels.loss_rows import row_losses
torch.manual_seed(0)
rows, columns = 256, 1013
similarity = (4 * torch.randn(rows, columns)).to(torch.bfloat16)
teacher = (8 * torch.randn(rows, columns)).to(torch.bfloat16)
batch = Batch(
    items=torch.arange(columns), trigger=torch.arange(rows), positive=torch.arange(rows),
    log_count=torch.zeros(columns), log_q=torch.randn(columns),
    hit_row=torch.arange(rows), hit_column=torch.arange(rows) + 1,
    weight=torch.rand(rows), hidden=torch.arange(0),
)
losses = row_losses(similarity, teacher, batch, (1.0, 0.2), torch.ones(rows, dtype=torch.bool), True)
parts = (*losses[:2], losses[2].view(torch.int16))
digest = hashlib.sha256(b"".join(part.numpy().tobytes() for part in parts))
print(digest.hexdigest())
"""


def test_kernels_compiled_now_and_read_from_the_cache_give_the_same_bits(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT]
    first, second = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert list(tmp_path.rglob("*.nbc"))  # what the first one compiled
    assert first == second
