"""Divide and Conquer for item-to-item retrieval (paper.md section 8): the trigger is seen through a
prompt of the cluster that is retrieved from.

    e_trigger^k = normalize(head(bottom(trigger) * prompt_k))
    e_candidate = normalize(head(bottom(candidate)))

The prompts begin at 1: before training, every cluster sees the trigger as an unprompted model does.
The candidate's side has no prompt, so one vector an item is all that an index needs.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mtmh.data.sampler import Batch
from mtmh.model.losses import column_offsets, engagement_loss
from mtmh.model.two_heads import TwoHeads


class PromptedItems(nn.Module):
    """One head over a bottom, and a prompt a cluster that is multiplied into the trigger's bottom.

    Arguments: `items` a TwoHeads with the one head "engagement"; `clusters` K; `prompted`: False
    holds all prompts at 1, the comparison that the paper makes. Raises ValueError where `items` has
    other heads.
    """

    def __init__(self, items: TwoHeads, clusters: int, prompted: bool = True) -> None:
        super().__init__()
        if list(items.heads) != ["engagement"]:
            raise ValueError(f"one head, engagement, is prompted: these are {list(items.heads)}")
        self.items = items
        width = items.heads["engagement"].get_parameter("mlp.0.weight").shape[1]
        self.prompts = nn.Parameter(torch.ones(clusters, width), requires_grad=prompted)

    def forward(self, ids: Tensor, floats: Tensor) -> dict[str, Tensor]:
        """int64 [n, id features], float32 [n, float features] -> {"bottom": float32 [n, width]}.

        The loss needs an item as candidate and as trigger: it reads both from the bottom.
        """
        return {"bottom": self.items.bottom(ids, floats)}

    def candidates(self, bottom: Tensor) -> Tensor:
        """float [n, width] -> float [n, out_dim], unit rows, without a prompt."""
        return normalize(self.items.heads["engagement"](bottom), dim=1)

    def triggers(self, bottom: Tensor, cluster: Tensor) -> Tensor:
        """float [n, width] seen from clusters int64 [n] -> float [n, out_dim], unit rows."""
        # Not prompts[cluster]: its gradient is summed in the order in which threads come.
        return self.candidates(bottom * self.prompts.index_select(0, cluster))


def prompted_loss(
    vectors: dict[str, Tensor],
    content: Tensor,
    batch: Batch,
    model: PromptedItems,
    cluster_of: Tensor,
    tau_p: float,
    logq: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """L_e of the prompted trigger over the batch's columns, as the training loop calls it.

    Arguments: `vectors` of `PromptedItems.forward`; `content` is not read (there is no
    distillation); `cluster_of` int64 [items] on the model's device; the others as in
    `objective_loss`. The cluster is that of the row's positive. Columns of other clusters are not
    masked here: `ClusterSampler` draws none. Returns the scalar and its parts.
    """
    bottom = vectors["bottom"]
    cluster = cluster_of[batch.items[batch.positive]]
    triggers = model.triggers(bottom.index_select(0, batch.trigger), cluster)
    columns = model.candidates(bottom[: len(batch.log_count)])
    logits = triggers @ columns.T / tau_p + column_offsets(batch)
    if logq:
        logits = logits - batch.log_q
    loss = engagement_loss(logits, batch.positive, batch.weight)
    return loss, {"prompted_head_engagement_loss": loss.detach()}
