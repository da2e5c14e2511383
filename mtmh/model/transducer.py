"""HSTU, the sequential transducer (Zhai et al. 2024), as a block of `PromptedSequence` (paper.md
section 9).

    U, V, Q, K = split(SiLU(LN(x) W))
    A          = SiLU(Q K^T + rab) / n      where a position reads, else 0
    out        = x + W_o (U * LN(A V))

n is the length of a sequence and rab a bias of how far back the position lies that is read. There
is no softmax: how strongly the past agrees is not normalized away.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import silu


class TransducerBlock(nn.Module):
    """One causal layer; the arguments are those of `Block`, behind the `length` of a sequence."""

    def __init__(self, length: int, dim: int, attention_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.length, self.attention_heads = length, attention_heads
        self.dropout = nn.Dropout(dropout)
        self.before, self.after = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.gates_values_queries_keys = nn.Linear(dim, 4 * dim)
        self.out = nn.Linear(dim, dim)
        self.bias = nn.Parameter(torch.zeros(attention_heads, length))  # by the steps back

    def forward(self, latent: Tensor, reads: Tensor) -> Tensor:
        """Float [B, T, dim], bool [B, 1, T, T] (row reads column) -> float [B, T, dim]."""
        batch, length, dim = latent.shape
        parts = silu(self.gates_values_queries_keys(self.before(latent))).chunk(4, dim=2)
        gate = parts[0]
        # [B, heads, T, dim / heads] each.
        shape = (batch, length, self.attention_heads, dim // self.attention_heads)
        value, query, key = (part.view(shape).transpose(1, 2) for part in parts[1:])
        step = torch.arange(length, device=latent.device)
        back = (step[:, None] - step).clamp(min=0)
        bias = self.bias.index_select(1, back.flatten()).view(-1, length, length)
        weight = silu(query @ key.transpose(2, 3) + bias) / self.length * reads
        mixed = (weight @ value).transpose(1, 2).reshape(batch, length, dim)
        transduced: Tensor = latent + self.out(self.dropout(gate * self.after(mixed)))
        return transduced
