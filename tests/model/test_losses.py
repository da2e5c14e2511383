"""Both losses and every objective against the paper's equations, written out item by item in
float64.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.small_batch import batch_of_a_pair, some_batch, unit
from helpers.some_heads import THREE_HEADS, some_heads

from mtmh.data.sampler import Batch
from mtmh.model.losses import MASKED, engagement_loss, objective_loss, relevance_loss

TAU_P, TAU_Q, W_R = 0.13, 0.08, 0.7
HEADS = some_heads(W_R)


def reference(e: np.ndarray, f: np.ndarray, batch: Batch, logq: bool) -> tuple[float, float]:
    """(L_e, L_r) of one head with vectors `e` and teacher `f`, paper section 3, one trigger and one
    negative a time.
    """
    b = {name: getattr(batch, name).numpy() for name in Batch.__dataclass_fields__}
    hits = set(zip(b["hit_row"].tolist(), b["hit_column"].tolist(), strict=True))
    l_e = l_r = 0.0
    for i, (trigger, positive) in enumerate(zip(b["trigger"], b["positive"], strict=True)):
        drawn = [positive]  # the set {positive, negatives}: a column drawn m times is in it m times
        for column, log_count in enumerate(b["log_count"]):
            if column != positive and (i, column) not in hits:
                drawn += [column] * round(math.exp(log_count))
        items = np.array(drawn)  # the first items are the columns
        s = np.array([float(e[trigger] @ e[j]) / TAU_P for j in items])
        c = np.array([float(f[trigger] @ f[j]) / TAU_Q for j in items])
        corrected = s - b["log_q"][drawn].astype(np.float64) if logq else s
        l_e -= b["weight"][i] * math.log(np.exp(corrected[0]) / np.exp(corrected).sum())
        q, p = np.exp(c) / np.exp(c).sum(), np.exp(s) / np.exp(s).sum()
        l_r += float((q * np.log(q / p)).sum())
    return l_e / len(b["trigger"]), l_r / len(b["trigger"])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("logq", [True, False])
@pytest.mark.parametrize("name", list(HEADS))
def test_objectives_equal_the_equations(name: str, logq: bool, dtype: torch.dtype) -> None:
    batch = some_batch()
    assert batch.log_count.max() > 0
    assert len(batch.hit_row)
    n = len(batch.items)
    heads = {head: unit(n, 5, seed, dtype) for seed, head in enumerate(HEADS[name])}
    f = unit(n, 4, 9, dtype)
    total, parts = objective_loss(heads, f, batch, HEADS[name], TAU_P, TAU_Q, logq)
    exact = {
        head: reference(e.double().numpy(), f.double().numpy(), batch, logq)
        for head, e in heads.items()
    }
    table = {
        "mtmh": lambda: (
            exact["engagement"][0] + exact["relevance"][0] + W_R * exact["relevance"][1]
        ),
        "stmh": lambda: exact["engagement"][0] + exact["relevance"][1],
        "mtsh": lambda: exact["relevance"][0] + W_R * exact["relevance"][1],
        "engagement": lambda: exact["engagement"][0],
        "three heads": lambda: sum(
            l_e * exact[head][0] + l_r * exact[head][1] for head, (l_e, l_r) in THREE_HEADS.items()
        ),
    }
    assert float(total) == pytest.approx(table[name](), rel=1e-6)
    for loss, part in parts.items():
        head, kind = loss.split("_head_")
        assert float(part) == pytest.approx(exact[head][kind == "relevance_loss"], rel=1e-6)
        assert not part.requires_grad


def test_the_engagement_gradient_is_weight_times_p_minus_onehot() -> None:
    logits = (3 * torch.randn(6, 9, dtype=torch.float64)).requires_grad_()
    positive, weight = (
        torch.tensor([0, 3, 8, 3, 2, 1]),
        torch.tensor([0.2, 1, 1.5, 0.7, 2, 0.6], dtype=torch.float64),
    )
    engagement_loss(logits, positive, weight).backward()
    p = torch.softmax(logits.detach(), 1)
    expected = weight[:, None] * (p - torch.nn.functional.one_hot(positive, 9)) / 6
    torch.testing.assert_close(logits.grad, expected, rtol=0, atol=1e-12)


def test_the_relevance_gradient_is_p_minus_q() -> None:
    logits = (3 * torch.randn(6, 9, dtype=torch.float64)).requires_grad_()
    teacher = 3 * torch.randn(6, 9, dtype=torch.float64)
    relevance_loss(logits, teacher).backward()
    expected = (torch.softmax(logits.detach(), 1) - torch.softmax(teacher, 1)) / 6
    torch.testing.assert_close(logits.grad, expected, rtol=0, atol=1e-12)


def test_gradients_agree_with_finite_differences() -> None:
    logits = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    teacher = torch.randn(4, 6, dtype=torch.float64)
    weight = torch.rand(4, dtype=torch.float64)
    torch.autograd.gradcheck(
        lambda x: 3 * engagement_loss(x, torch.tensor([0, 5, 2, 2]), weight), (logits,)
    )
    torch.autograd.gradcheck(lambda x: 3 * relevance_loss(x, teacher), (logits,))


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_masked_columns_are_as_if_they_were_not_there(scale: float) -> None:
    """Also for logits of a size whose exponential overflows, and when only the positive is left."""
    keep = torch.tensor([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1], [0, 0, 0, 1, 0]], dtype=torch.bool)
    raw, teacher = scale * torch.randn(3, 5), scale * torch.randn(3, 5)
    positive, weight = torch.tensor([0, 2, 3]), torch.ones(3)
    logits = raw.masked_fill(~keep, MASKED).requires_grad_()
    masked_teacher = teacher.masked_fill(~keep, MASKED)
    for loss in (engagement_loss(logits, positive, weight), relevance_loss(logits, masked_teacher)):
        logits.grad = None
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()
        assert (logits.grad[~keep] == 0).all()
    rows = [(raw[i : i + 1, keep[i]], teacher[i : i + 1, keep[i]]) for i in range(3)]
    alone = torch.stack([relevance_loss(*row) for row in rows]).mean()
    torch.testing.assert_close(
        relevance_loss(logits.detach(), masked_teacher), alone, rtol=1e-5, atol=1e-6
    )
    ranks = [int(keep[i, : positive[i]].sum()) for i in range(3)]
    alone = torch.stack(
        [
            engagement_loss(row[0], torch.tensor([k]), torch.ones(1))
            for row, k in zip(rows, ranks, strict=True)
        ]
    ).mean()
    torch.testing.assert_close(
        engagement_loss(logits.detach(), positive, weight), alone, rtol=1e-5, atol=1e-6
    )


def test_log_count_is_the_same_as_repeating_the_column() -> None:
    batch = some_batch()
    again = torch.repeat_interleave(
        torch.arange(len(batch.log_count)), batch.log_count.exp().round().long()
    )
    first = torch.searchsorted(again, torch.arange(len(batch.log_count)))
    repeats = again[None] == batch.positive[:, None]  # the positive itself stays once
    repeats[torch.arange(len(batch.positive)), first[batch.positive]] = False
    masked = torch.zeros(len(batch.positive), len(batch.log_count), dtype=torch.bool)
    masked[batch.hit_row, batch.hit_column] = True
    hit_row, hit_column = (masked[:, again] | repeats).nonzero(as_tuple=True)
    place = torch.cat([again, torch.arange(len(batch.log_count), len(batch.items))])
    repeated = replace(
        batch,
        items=batch.items[place],
        trigger=place[None].eq(batch.trigger[:, None]).int().argmax(dim=1),
        positive=first[batch.positive],
        log_count=torch.zeros(len(again)),
        log_q=batch.log_q[again],
        hit_row=hit_row,
        hit_column=hit_column,
    )
    n = len(batch.items)
    heads, f = {"engagement": unit(n, 5, 0), "relevance": unit(n, 5, 1)}, unit(n, 4, 2)
    more = {head: vectors[place] for head, vectors in heads.items()}
    alone = objective_loss(heads, f, batch, HEADS["mtmh"], TAU_P, TAU_Q, True)[0]
    repeated_loss = objective_loss(more, f[place], repeated, HEADS["mtmh"], TAU_P, TAU_Q, True)[0]
    torch.testing.assert_close(repeated_loss, alone, rtol=1e-7, atol=0)


def test_logq_makes_up_for_being_drawn_often() -> None:
    """A negative drawn ten times as often as the positive counts a tenth."""
    batch = batch_of_a_pair([math.log(0.01), math.log(0.1)])
    same = torch.nn.functional.normalize(torch.ones(3, 2), dim=1)
    plain, corrected = (
        float(
            objective_loss({"engagement": same}, same, batch, HEADS["engagement"], 0.1, 0.1, logq)[
                0
            ]
        )
        for logq in (False, True)
    )
    assert plain == pytest.approx(math.log(2))
    assert corrected == pytest.approx(math.log(1 + 0.1), rel=1e-5)


def test_distillation_takes_the_uncorrected_logits() -> None:
    batch = some_batch()
    other = replace(batch, log_q=batch.log_q + torch.linspace(-3, 3, len(batch.log_q)))
    n = len(batch.items)
    results = []
    for b in (batch, other):
        e = unit(n, 5, 1).requires_grad_()
        total, parts = objective_loss(
            {"relevance": e}, unit(n, 4, 2), b, HEADS["stmh"], TAU_P, TAU_Q, True
        )
        total.backward()
        results.append((parts["relevance_head_relevance_loss"], e.grad))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_the_teacher_gets_no_gradient() -> None:
    batch = some_batch()
    n = len(batch.items)
    e, f = unit(n, 5, 1).requires_grad_(), unit(n, 4, 2).requires_grad_()
    objective_loss({"relevance": e}, f, batch, HEADS["mtsh"], TAU_P, TAU_Q, True)[0].backward()
    assert e.grad is not None
    assert f.grad is None


def test_equal_student_and_teacher_cost_nothing() -> None:
    logits = torch.randn(5, 7)
    assert float(relevance_loss(logits, logits + 2)) == pytest.approx(0, abs=1e-6)
