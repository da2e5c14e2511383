"""The model: unit rows, by the equation; unknown ids."""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
from helpers.checkerboard import ITEMS, OLD, Stages
from torch import nn

from mtmh.data.prepared import Prepared
from mtmh.model.catalog import Catalog, number_ids
from mtmh.model.two_heads import Head, TwoHeads, build_model


def make_model(heads: tuple[str, ...] = ("engagement", "relevance"), floats: int = 2) -> TwoHeads:
    torch.manual_seed(0)
    return TwoHeads([16, 4], [6, 3], torch.zeros(floats), torch.ones(floats), [8], 5, heads)


@pytest.mark.parametrize("floats", [0, 2])
def test_every_head_gives_unit_rows(floats: int) -> None:
    model = make_model(floats=floats)
    vectors = model(torch.randint(0, 4, (7, 2)), torch.randn(7, floats))
    assert set(vectors) == {"engagement", "relevance"}
    for rows in vectors.values():
        assert rows.shape == (7, 5)
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(7))


@pytest.mark.parametrize("hidden", [[], [6], [6, 4]])
def test_a_head_is_an_mlp_beside_a_linear_map(hidden: list[int]) -> None:
    """Written out in NumPy, float64."""
    torch.manual_seed(0)
    head = Head([7, *hidden, 5]).double()
    bottom = torch.randn(9, 7, dtype=torch.float64)
    weights = [weight.detach().numpy() for weight in head.parameters()]
    linear = weights.pop() if hidden else np.zeros((5, 7))
    deep = bottom.numpy()
    for layer, (weight, bias) in enumerate(zip(weights[::2], weights[1::2], strict=True)):
        deep = (np.maximum(deep, 0) if layer else deep) @ weight.T + bias
    np.testing.assert_allclose(
        head(bottom).detach().numpy(), deep + bottom.numpy() @ linear.T, rtol=1e-12
    )


def test_a_zero_vector_stays_one_and_its_gradient_is_finite() -> None:
    model = make_model(("engagement",))
    for weight in model.parameters():
        nn.init.zeros_(weight)
    units = model(torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2, 2))["engagement"]
    units.sum().backward()
    assert not units.any()
    for weight in model.heads.parameters():
        assert weight.grad is not None
        assert torch.isfinite(weight.grad).all()


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
