"""Divide and Conquer in its own, sequential form (paper.md section 8): a small causal transformer,
SASRec-like, that yields a user vector for each cluster. With one cluster and without prompts it
is SASRec (Kang and McAuley 2018), and HSTU with the blocks of `mtmh.model.transducer`.

    u^k = transformer((x_1 * prompt_k, .., x_T * prompt_k))_T      score = <u^k, y> / tau

with x the embeddings of the user's behaviours, oldest first, and y those of the candidates, from
the same table.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class Block(nn.Module):
    """Causal attention and a feed-forward layer, each beside the identity, normalized before;
    `dropout` of what each adds."""

    def __init__(self, dim: int, attention_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention_heads, self.dropout = attention_heads, nn.Dropout(dropout)
        self.before_attention, self.before_forward = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.queries_keys_values = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        self.forward_layers = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(self, latent: Tensor, reads: Tensor) -> Tensor:
        """Float [B, T, dim], bool [B, 1, T, T] (row reads column) -> float [B, T, dim]."""
        batch, length, dim = latent.shape
        parts = self.queries_keys_values(self.before_attention(latent)).chunk(3, dim=2)
        # [B, heads, T, dim / heads] each.
        shape = (batch, length, self.attention_heads, dim // self.attention_heads)
        query, key, value = (part.view(shape).transpose(1, 2) for part in parts)
        mixed = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=reads)
        attended = self.out(mixed.transpose(1, 2).reshape(batch, length, dim))
        latent = latent + self.dropout(attended)
        forwarded = self.dropout(self.forward_layers(self.before_forward(latent)))
        transformed: Tensor = latent + forwarded
        return transformed


class PromptedSequence(nn.Module):
    """Behaviours and a cluster to a user vector.

    Arguments: `n_items` of the catalog; `dim` of embeddings, `length` the most behaviours that are
    read, `layers` and `attention_heads` of the transformer, `clusters` K; `prompted` False holds
    the prompts at 1: then all user vectors are one; `block` (dim, attention_heads) makes a layer;
    `dropout` of the embeddings; `unit` False leaves the vectors their length, as SASRec's own.
    Row 0 of the table stands for no item.
    """

    def __init__(
        self,
        n_items: int,
        clusters: int,
        dim: int,
        length: int,
        layers: int,
        attention_heads: int,
        prompted: bool = True,
        block: Callable[[int, int], nn.Module] = Block,
        dropout: float = 0.0,
        unit: bool = True,
    ) -> None:
        super().__init__()
        self.length, self.dropout, self.unit = length, nn.Dropout(dropout), unit
        self.table = nn.Embedding(n_items + 1, dim, padding_idx=0)
        nn.init.normal_(self.table.weight[1:], std=dim**-0.5)
        self.position = nn.Parameter(torch.randn(length, dim) * dim**-0.5)
        self.prompts = nn.Parameter(torch.ones(clusters, dim), requires_grad=prompted)
        self.blocks = nn.ModuleList(block(dim, attention_heads) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def users(self, past: Tensor, cluster: Tensor) -> Tensor:
        """Int64 [B, length] items and int64 [B] clusters -> float32 [B, dim], unit rows.

        Items are oldest first, -1 before the first; the newest stands last.
        """
        return self.states(past, cluster)[:, -1]

    def states(self, past: Tensor, cluster: Tensor) -> Tensor:
        """As `users`, after each item of the past: float32 [B, length, dim], unit rows."""
        prompt = self.prompts.index_select(0, cluster)[:, None]
        latent = self.dropout(self.table(past + 1) * prompt + self.position)
        # Who reads whom: the earlier ones that are there, and itself, so that no row reads nothing.
        steps = torch.ones(self.length, self.length, dtype=torch.bool, device=past.device).tril()
        itself = torch.eye(self.length, dtype=torch.bool, device=past.device)
        reads = ((past >= 0)[:, None, :] & steps) | itself
        for block in self.blocks:
            latent = block(latent, reads[:, None])
        states: Tensor = self.norm(latent)
        return normalize(states, dim=2) if self.unit else states

    def candidates(self, item: Tensor) -> Tensor:
        """Int64 [n] -> float32 [n, dim], unit rows."""
        rows: Tensor = self.table(item + 1)
        return normalize(rows, dim=1) if self.unit else rows
