"""The networks' scores against their equations, in float64 and a pair at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.checkerboard import train_settings
from helpers.small_batch import some_batch, some_rows, unit

from mtmh.baselines import neural
from mtmh.baselines.contract import TrainData, VectorSearch
from mtmh.baselines.models import fit_baseline, trials
from mtmh.baselines.towers import (
    VECTORS,
    ItemTower,
    MixtureOfLogits,
    euclidean,
    euclidean_vectors,
    inner_product,
)
from mtmh.data.prepared import Prepared
from mtmh.errors import UserError
from mtmh.heads import loss_weights
from mtmh.model.losses import objective_loss
from mtmh.stages import StageFolders


@pytest.fixture
def mixture() -> MixtureOfLogits:
    torch.manual_seed(0)
    none = torch.zeros(0)
    tower = ItemTower([30], [8], none, none, 0, 0, (16, 10))
    return MixtureOfLogits(tower, 10, 3, 4).double()


def test_euclidean_distance_is_an_inner_product_of_the_same_order() -> None:
    x, y = some_rows(6, 5, 0).double(), some_rows(40, 5, 1).double()
    distance = ((x[:, None] - y[None]) ** 2).sum(dim=2)
    torch.testing.assert_close(euclidean(x, y), -distance)
    # The paper's form, without what is the same for all of a trigger's candidates.
    ones = torch.ones(6, 1, dtype=torch.float64)
    paper = torch.cat([x, ones], 1) @ torch.cat([2 * y, -(y**2).sum(1, keepdim=True)], 1).T
    assert torch.equal(paper.argsort(dim=1), (-distance).argsort(dim=1))


def test_exact_search_of_distances_names_the_nearest() -> None:
    table = some_rows(50, 6, 2)
    queries, keys = (vectors.numpy() for vectors in euclidean_vectors(table))
    search = VectorSearch(queries, keys, np.arange(50, dtype=np.int32))
    triggers = np.array([3, 7], np.int32)
    ids, scores = search.similar_items(triggers, 5)
    for row, (trigger, found) in enumerate(zip(triggers, ids, strict=True)):
        distance = np.linalg.norm(table.numpy() - table[trigger].numpy(), axis=1) ** 2
        distance[trigger] = np.inf
        assert found.tolist() == np.argsort(distance)[:5].tolist()
        np.testing.assert_allclose(scores[row], -np.sort(distance)[:5], rtol=1e-4)


def test_the_gate_mixes_all_dots_of_a_pair(mixture: MixtureOfLogits) -> None:
    ids = torch.arange(12)[:, None]
    rows = mixture(ids, torch.zeros(12, 0, dtype=torch.float64))[VECTORS].double()
    rows = rows.detach()
    phi = mixture.score(rows[:5], rows[5:])
    for q in range(5):
        for x in range(7):
            f, g = rows[q, :12].view(3, 4), rows[5 + x, 12:24].view(3, 4)
            dots = torch.stack([f[p] @ g[r] for p in range(3) for r in range(3)])
            inner = rows[q, 24:33] * rows[5 + x, 33:42] + mixture.cross(dots)
            weight = torch.exp(inner * torch.sigmoid(inner))
            torch.testing.assert_close(phi[q, x], (weight * dots).sum() / weight.sum())
    assert (phi.abs() <= 1).all()


def test_a_shortlist_is_the_mixture_with_a_flat_gate(mixture: MixtureOfLogits) -> None:
    rows = mixture(torch.arange(9)[:, None], torch.zeros(9, 0, dtype=torch.float64))[VECTORS]
    queries, keys = mixture.shortlist_vectors(rows.double())
    f, g = rows[:, :12].double().view(9, 3, 4), rows[:, 12:24].double().view(9, 3, 4)
    expected = torch.einsum("bpd,crd->bc", f, g)
    torch.testing.assert_close(queries @ keys.T, expected)


@pytest.mark.parametrize("logq", [True, False])
def test_the_loss_of_an_inner_product_is_that_of_the_engagement_head(logq: bool) -> None:
    batch = some_batch()
    units = unit(len(batch.items), 6, 3)
    content = torch.zeros(len(batch.items), 4, dtype=torch.float64)
    ours, parts = neural.pair_loss({VECTORS: units}, content, batch, inner_product, 0.2, logq)
    weights = loss_weights("engagement", 0.0)
    heads = {"engagement": units.float()}
    theirs, _ = objective_loss(heads, content.float(), batch, weights, 0.2, 1.0, logq)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
    assert parts["engagement_loss"] == ours


@pytest.mark.parametrize("name", ["hllm", "content_features", "mol"])
def test_a_network_that_reads_content_refuses_data_without(name: str, world: StageFolders) -> None:
    data = TrainData.load(Prepared.load(world.prepared), world.features, world.content, world.pairs)
    blind = replace(data, content=np.zeros_like(data.content))
    with pytest.raises(UserError, match=f"the baseline {name} reads what items are about"):
        fit_baseline(name, blind, train_settings(), 0, trials(name, 1)[0])
