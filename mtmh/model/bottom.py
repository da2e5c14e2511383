"""The shared bottom: SparseNN embeds id features, DenseNN maps float features,
their concatenation feeds the heads.

Paper section 3. No content embedding goes in: content enters by distillation only.
"""

import torch
from torch import Tensor, nn


class SparseNN(nn.Module):
    """One embedding table an id feature; row 0 of every table is of unknown ids.

    Gradients are sparse, so an optimizer step touches the rows of the batch and not the whole
    table.
    """

    def __init__(self, vocabularies: list[int], dims: list[int]) -> None:
        super().__init__()
        sizes = zip(vocabularies, dims, strict=True)
        tables = [nn.Embedding(rows, dim, sparse=True) for rows, dim in sizes]
        # Rows of unit length on average, whatever the width.
        for table in tables:
            nn.init.normal_(table.weight, std=table.embedding_dim**-0.5)
        self.tables = nn.ModuleList(tables)

    def forward(self, ids: Tensor) -> Tensor:
        """int64 [n, features] -> float32 [n, sum of dims]."""
        latent = [table(ids[:, i]) for i, table in enumerate(self.tables)]
        return torch.cat(latent, dim=1) if len(latent) > 1 else latent[0]


class DenseNN(nn.Module):
    """Float features, standardized by the mean and deviation of the training
    catalog, to a latent vector.
    """

    def __init__(self, mean: Tensor, deviation: Tensor, dim: int) -> None:
        super().__init__()
        self.mean = nn.Buffer(mean)
        self.deviation = nn.Buffer(deviation)
        self.layer = nn.Linear(len(mean), dim)

    def forward(self, floats: Tensor) -> Tensor:
        """float32 [n, features] -> float32 [n, dim]."""
        return torch.relu(self.layer((floats - self.mean) / self.deviation))
