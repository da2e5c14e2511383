"""The contrastive loss against the paper's equation, written out pair by pair in float64."""

import math

import numpy as np
import pytest
import torch

from mtmh.content.contrastive import contrastive_loss

TAU = 0.11


def unit(rows: int, dim: int, seed: int) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(rows, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def reference(content: np.ndarray, concept: np.ndarray, concepts_of: list[set[str]]) -> float:
    """Both directions, one pair and one negative a time; an item that shares a concept is no
    negative.
    """
    total = 0.0
    for i in range(len(content)):
        negatives = [
            j for j in range(len(content)) if j != i and not concepts_of[i] & concepts_of[j]
        ]
        positive = math.exp(float(content[i] @ concept[i]) / TAU)
        to_concept = sum(math.exp(float(content[i] @ concept[j]) / TAU) for j in negatives)
        to_content = sum(math.exp(float(content[j] @ concept[i]) / TAU) for j in negatives)
        total -= math.log(positive / (positive + to_concept)) / 2
        total -= math.log(positive / (positive + to_content)) / 2
    return total / len(content)


def shared(concepts_of: list[set[str]]) -> torch.Tensor:
    return torch.tensor([[bool(one & other) for other in concepts_of] for one in concepts_of])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    "concepts_of",
    [
        [{"a"}, {"b"}, {"c"}, {"d"}, {"e"}],  # nothing is masked
        [{"a", "x"}, {"b"}, {"x", "c"}, {"d"}, {"b", "e"}],  # 0 and 2 share x, 1 and 4 share b
        [
            {"a"},
            {"a", "b"},
            {"b", "c"},
            {"a"},
            {"d"},
        ],  # the item twice; sharing does not carry over from 0 to 2
        [{"a"}] * 5,  # all is masked: nothing to learn
    ],
)
def test_the_loss_is_the_equation(concepts_of: list[set[str]], dtype: torch.dtype) -> None:
    content, concept = unit(5, 4, 0), unit(5, 4, 1)
    found = contrastive_loss(
        torch.from_numpy(content).to(dtype),
        torch.from_numpy(concept).to(dtype),
        shared(concepts_of),
        torch.tensor(1 / TAU, dtype=dtype),
    )
    assert float(found) == pytest.approx(
        reference(content, concept, concepts_of), rel=1e-5, abs=1e-12
    )


def test_the_gradient_agrees_with_finite_differences_also_in_the_temperature() -> None:
    vectors = [torch.from_numpy(unit(4, 3, seed)).requires_grad_() for seed in (0, 1)]
    scale = torch.tensor(5.0, dtype=torch.float64, requires_grad=True)
    mask = shared([{"a"}, {"b", "c"}, {"c"}, {"d"}])
    assert torch.autograd.gradcheck(
        lambda x, y, s: contrastive_loss(x, y, mask, s), (*vectors, scale)
    )


def test_a_masked_item_is_pushed_nowhere() -> None:
    """Items 0 and 1 share a concept; with no other pair in the batch neither has a negative."""
    content, concept = (torch.from_numpy(unit(2, 3, seed)).requires_grad_() for seed in (0, 1))
    contrastive_loss(
        content, concept, torch.ones(2, 2, dtype=torch.bool), torch.tensor(9.0)
    ).backward()
    assert content.grad is not None
    assert not content.grad.any()
