"""The optimizer's own step for rows of tables, against PyTorch's over the whole of them."""

import torch
from torch import Tensor, nn

from mtmh.kernels.adagrad import fused_update

IDS = [torch.tensor([3, 0, 3, 5]), torch.tensor([5, 1, 2, 1]), torch.tensor([0, 0, 0, 0])]


def trained(sparse: bool) -> tuple[dict[str, Tensor], Tensor]:
    """The weights after a few steps, and the sums of squares of the table."""
    torch.manual_seed(0)
    model = nn.ModuleDict({"table": nn.Embedding(8, 4, sparse=sparse), "dense": nn.Linear(4, 3)})
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.1)
    for ids in IDS:
        model["dense"](model["table"](ids)).square().sum().backward()
        if sparse:
            fused_update(optimizer)
            assert all(weight.grad is None for weight in model.parameters())
        else:
            optimizer.step()
            optimizer.zero_grad()
    return model.state_dict(), optimizer.state[model["table"].weight]["sum"]


def test_rows_and_dense_weights_get_adagrads_step() -> None:
    """Ids that repeat in a batch count once, with the sum of their gradients."""
    (weights, sums), (exact, exact_sums) = trained(sparse=True), trained(sparse=False)
    for name, weight in exact.items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(sums, exact_sums, rtol=1e-6, atol=1e-7)
