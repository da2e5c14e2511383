"""The model: what each head's loss may touch, unit rows, unknown ids."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from helpers.checkerboard import ITEMS, OLD, Stages
from helpers.small_batch import some_batch, unit

from mtmh.data.prepared import Prepared
from mtmh.model.catalog import Catalog, number_ids
from mtmh.model.losses.objective import HEADS_OF, objective_loss
from mtmh.model.two_heads import TwoHeads, build_model


def make_model(heads: tuple[str, ...] = ("engagement", "relevance"), floats: int = 2) -> TwoHeads:
    torch.manual_seed(0)
    return TwoHeads([16, 4], [6, 3], torch.zeros(floats), torch.ones(floats), [8], 5, heads)


def gradients(objective: str, w_r: float) -> dict[str, torch.Tensor]:
    """Gradient of every weight, dense, after one batch."""
    batch, model = some_batch(), make_model(HEADS_OF[objective])
    ids = torch.stack([batch.items + 1, batch.items % 4], dim=1)
    floats = torch.randn(len(ids), 2, generator=torch.Generator().manual_seed(1))
    content = unit(len(ids), 4, 3, torch.float32)
    objective_loss(model(ids, floats), content, batch, objective, 0.1, 0.1, w_r, True)[0].backward()
    return {name: weight.grad.to_dense() for name, weight in model.named_parameters() if weight.grad is not None}


def test_the_relevance_loss_reaches_the_bottom_and_its_own_head_alone() -> None:
    plain, distilled = gradients("mtmh", 0.0), gradients("mtmh", 2.0)
    assert set(plain) == {name for name, _ in make_model().named_parameters()}
    for name in plain:
        assert torch.equal(plain[name], distilled[name]) is name.startswith("heads.engagement"), name


def test_the_bottom_gets_the_sum_of_both_heads_gradients() -> None:
    """One backward pass: the bottom's gradient of STMH is that of L_e through one head and L_r through the other."""
    both = gradients("stmh", 0.0)
    batch, model = some_batch(), make_model()
    ids = torch.stack([batch.items + 1, batch.items % 4], dim=1)
    floats = torch.randn(len(ids), 2, generator=torch.Generator().manual_seed(1))
    content = unit(len(ids), 4, 3, torch.float32)
    for head in model.heads:
        alone = {head: model(ids, floats)[head]}
        objective_loss(alone, content, batch, "stmh", 0.1, 0.1, 0, True)[0].backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None
        torch.testing.assert_close(weight.grad.to_dense(), both[name], rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("floats", [0, 2])
def test_every_head_gives_unit_rows(floats: int) -> None:
    model = make_model(floats=floats)
    vectors = model(torch.randint(0, 4, (7, 2)), torch.randn(7, floats))
    assert set(vectors) == {"engagement", "relevance"}
    for rows in vectors.values():
        assert rows.shape == (7, 5)
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(7))


def test_only_rows_of_the_batch_get_a_gradient() -> None:
    model = make_model()
    model(torch.tensor([[3, 0], [5, 1]]), torch.zeros(2, 2))["engagement"].sum().backward()
    gradient = model.sparse.tables[0].weight.grad
    assert gradient is not None
    assert gradient.is_sparse
    assert gradient.coalesce().indices().tolist() == [[3, 5]]


def test_unknown_ids_are_row_0() -> None:
    column = pa.array(["b", "new", None, "a"])
    assert number_ids(column, ["a", "b"]).tolist() == [2, 0, 0, 1]


def test_items_without_engagement_before_the_split_are_unknown(world: Stages) -> None:
    catalog = Catalog.load(Prepared.load(world.prepared), world.features)
    ids = catalog.ids.numpy()
    assert ids.shape == (ITEMS, 2)
    assert sorted(ids[:OLD, 0]) == list(range(1, OLD + 1))
    assert (ids[OLD:, 0] == 0).all()
    assert (ids[OLD:, 1] > 0).all()  # their creators are known
    assert catalog.vocabularies["item_id"][ids[7, 0] - 1] == "i07"
    # a new item with a known creator still gets a place of its own by its features
    model = build_model(catalog.architecture(8, [8], 4, ("engagement",)))
    vectors = model(catalog.ids, catalog.floats)["engagement"]
    assert not torch.allclose(vectors[OLD], vectors[OLD + 1])


def test_a_model_is_the_same_after_json(world: Stages) -> None:
    catalog = Catalog.load(Prepared.load(world.prepared), world.features)
    architecture = catalog.architecture(8, [8], 4, ("relevance",))
    model, again = build_model(architecture), build_model(json.loads(json.dumps(architecture)))
    again.load_state_dict(model.state_dict())
    vectors = [m(catalog.ids, catalog.floats)["relevance"].detach().numpy() for m in (model, again)]
    np.testing.assert_array_equal(*vectors)
    assert np.isfinite(vectors[0]).all()  # although one feature is constant
