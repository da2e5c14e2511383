"""HSTU's block against its equation, a position at a time in float64."""

import numpy as np
import torch

from mtmh.model.transducer import TransducerBlock

LENGTH, DIM, HEADS = 4, 6, 2


def silu(x: np.ndarray) -> np.ndarray:
    out: np.ndarray = x / (1 + np.exp(-x))
    return out


def layer_norm(x: np.ndarray) -> np.ndarray:
    """With the weight 1 and the bias 0 that a norm begins at."""
    out: np.ndarray = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return out


def test_a_block_equals_the_equation_and_reads_what_it_may() -> None:
    torch.manual_seed(0)
    block = TransducerBlock(LENGTH, DIM, HEADS).double()
    torch.nn.init.normal_(block.bias)
    x = torch.randn(1, LENGTH, DIM, dtype=torch.float64)
    reads = torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    reads[:, 0] = False  # padding, which reads itself alone
    reads[0, 0] = True
    ours = block(x, reads[None, None])[0].detach().numpy()
    w = {name: tensor.detach().numpy() for name, tensor in block.state_dict().items()}
    rows = x[0].numpy()
    packed = np.stack(
        [
            w["gates_values_queries_keys.weight"] @ layer_norm(row)
            + w["gates_values_queries_keys.bias"]
            for row in rows
        ]
    )
    u, v, q, k = np.split(silu(packed), 4, axis=1)
    width = DIM // HEADS
    for t in range(LENGTH):
        mixed = np.zeros(DIM)
        for head in range(HEADS):
            part = slice(head * width, (head + 1) * width)
            for s in np.flatnonzero(reads[t].numpy()):
                score = q[t, part] @ k[s, part] + w["bias"][head, t - s]
                mixed[part] += silu(score) / LENGTH * v[s, part]
        expected = rows[t] + w["out.weight"] @ (u[t] * layer_norm(mixed)) + w["out.bias"]
        np.testing.assert_allclose(ours[t], expected, rtol=1e-9, atol=1e-12)
