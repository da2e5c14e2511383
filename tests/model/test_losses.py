"""Both losses and every objective against the paper's equations, written out item by item in float64."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.small_batch import some_batch, unit

from mtmh.data.sampler import Batch
from mtmh.model.losses.engagement import engagement_loss
from mtmh.model.losses.matrix import losses_by_matrix
from mtmh.model.losses.objective import HEADS_OF, objective_loss
from mtmh.model.losses.relevance import MASKED, relevance_loss
from mtmh.model.losses.rows import losses_by_row

TAU_P, TAU_Q, W_R = 0.13, 0.08, 0.7


def reference(e: np.ndarray, f: np.ndarray, batch: Batch, logq: bool) -> tuple[float, float]:
    """(L_e, L_r) of one head with vectors `e` and teacher `f`, paper section 3, one trigger and one negative a time."""
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
@pytest.mark.parametrize("objective", list(HEADS_OF))
def test_objectives_equal_the_equations(objective: str, logq: bool, dtype: torch.dtype) -> None:
    batch = some_batch()
    assert batch.log_count.max() > 0
    assert len(batch.hit_row)
    n = len(batch.items)
    heads = {head: unit(n, 5, seed, dtype) for seed, head in enumerate(HEADS_OF[objective])}
    f = unit(n, 4, 9, dtype)
    total, parts = objective_loss(heads, f, batch, objective, TAU_P, TAU_Q, W_R, logq)
    exact = {head: reference(e.double().numpy(), f.double().numpy(), batch, logq) for head, e in heads.items()}
    table = {
        "mtmh": lambda: exact["engagement"][0] + exact["relevance"][0] + W_R * exact["relevance"][1],
        "stmh": lambda: exact["engagement"][0] + exact["relevance"][1],
        "mtsh": lambda: exact["relevance"][0] + W_R * exact["relevance"][1],
        "engagement": lambda: exact["engagement"][0],
    }
    assert float(total) == pytest.approx(table[objective](), rel=1e-6)
    for name, part in parts.items():
        head, kind = name.split("_head_")
        assert float(part) == pytest.approx(exact[head][kind == "relevance_loss"], rel=1e-6)
        assert not part.requires_grad


@pytest.mark.parametrize("share", [(1.0, 0.0), (0.0, 1.0), (1.0, 0.4)])
@pytest.mark.parametrize("tau", [0.1, 0.005])  # the second: most of a row's exponentials are too small for a float32
def test_a_row_at_a_time_gives_what_whole_matrices_give(share: tuple[float, float], tau: float) -> None:
    batch = some_batch()
    n, p = len(batch.items), len(batch.log_count)
    student, content = unit(n, 5, 0), unit(n, 4, 1)
    content[batch.trigger[0]] = 0
    known = content[batch.trigger].any(dim=1)
    similarity = student[batch.trigger] @ student[:p].T / tau
    teacher = content[batch.trigger] @ content[:p].T / tau if share[1] else None
    exact = losses_by_matrix(similarity, teacher, batch, share, known, True)
    single = similarity.float(), None if teacher is None else teacher.float()
    for found, expected in zip(losses_by_row(*single, batch, share, known, True), exact, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("objective", list(HEADS_OF))
def test_the_gradient_a_row_at_a_time_is_that_of_whole_matrices(objective: str) -> None:
    """Float32 goes a row at a time, float64 by whole matrices; the loss is weighed by what follows it."""
    batch = some_batch()
    n, slopes = len(batch.items), {}
    for dtype in (torch.float32, torch.float64):
        heads = {head: unit(n, 8, i, dtype).requires_grad_() for i, head in enumerate(HEADS_OF[objective])}
        total = objective_loss(heads, unit(n, 8, 9, dtype), batch, objective, TAU_P, TAU_Q, W_R, True)[0]
        slopes[dtype] = torch.autograd.grad(3 * total, list(heads.values()))
    for single, double in zip(*slopes.values(), strict=True):
        torch.testing.assert_close(single.double(), double, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("objective", list(HEADS_OF))
def test_bfloat16_products_give_the_gradient_within_their_rounding(objective: str) -> None:
    batch = some_batch()
    n = len(batch.items)
    content, slopes = unit(n, 8, 9, torch.float32), {}
    for precision in (torch.float32, torch.bfloat16):
        heads = {head: unit(n, 8, i, torch.float32).requires_grad_() for i, head in enumerate(HEADS_OF[objective])}
        objective_loss(heads, content, batch, objective, TAU_P, TAU_Q, W_R, True, precision)[0].backward()
        slopes[precision] = torch.cat([vectors.grad for vectors in heads.values() if vectors.grad is not None])
    error = (slopes[torch.bfloat16] - slopes[torch.float32]).norm() / slopes[torch.float32].norm()
    assert 0 < float(error) < 0.02


def test_the_engagement_gradient_is_weight_times_p_minus_onehot() -> None:
    logits = (3 * torch.randn(6, 9, dtype=torch.float64)).requires_grad_()
    positive, weight = torch.tensor([0, 3, 8, 3, 2, 1]), torch.tensor([0.2, 1, 1.5, 0.7, 2, 0.6], dtype=torch.float64)
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
    torch.autograd.gradcheck(lambda x: 3 * engagement_loss(x, torch.tensor([0, 5, 2, 2]), weight), (logits,))
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
    torch.testing.assert_close(relevance_loss(logits.detach(), masked_teacher), alone, rtol=1e-5, atol=1e-6)
    ranks = [int(keep[i, : positive[i]].sum()) for i in range(3)]
    alone = torch.stack(
        [engagement_loss(row[0], torch.tensor([k]), torch.ones(1)) for row, k in zip(rows, ranks, strict=True)]
    ).mean()
    torch.testing.assert_close(engagement_loss(logits.detach(), positive, weight), alone, rtol=1e-5, atol=1e-6)


def test_log_count_is_the_same_as_repeating_the_column() -> None:
    batch = some_batch()
    again = torch.repeat_interleave(torch.arange(len(batch.log_count)), batch.log_count.exp().round().long())
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
    alone = objective_loss(heads, f, batch, "mtmh", TAU_P, TAU_Q, W_R, True)[0]
    again_told = objective_loss(more, f[place], repeated, "mtmh", TAU_P, TAU_Q, W_R, True)[0]
    torch.testing.assert_close(again_told, alone, rtol=1e-7, atol=0)


def test_logq_makes_up_for_being_drawn_often() -> None:
    """A negative drawn ten times as often as the positive counts a tenth."""
    batch = Batch(
        items=torch.arange(3),
        trigger=torch.tensor([2]),
        positive=torch.tensor([0]),
        log_count=torch.zeros(2),
        log_q=torch.tensor([0.01, 0.1]).log(),
        hit_row=torch.zeros(0, dtype=torch.int64),
        hit_column=torch.zeros(0, dtype=torch.int64),
        weight=torch.ones(1),
        hidden=torch.zeros(0, dtype=torch.int64),
    )
    same = torch.nn.functional.normalize(torch.ones(3, 2), dim=1)
    plain, corrected = (
        float(objective_loss({"engagement": same}, same, batch, "engagement", 0.1, 0.1, 0, logq)[0])
        for logq in (False, True)
    )
    assert plain == pytest.approx(math.log(2))
    assert corrected == pytest.approx(math.log(1 + 0.1), rel=1e-5)


def test_distillation_takes_the_uncorrected_logits() -> None:
    batch = some_batch()
    other = replace(batch, log_q=batch.log_q + torch.linspace(-3, 3, len(batch.log_q)))
    n = len(batch.items)
    found = []
    for b in (batch, other):
        e = unit(n, 5, 1).requires_grad_()
        total, parts = objective_loss({"relevance": e}, unit(n, 4, 2), b, "stmh", TAU_P, TAU_Q, W_R, True)
        total.backward()
        found.append((parts["relevance_head_relevance_loss"], e.grad))
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


def test_the_teacher_gets_no_gradient() -> None:
    batch = some_batch()
    n = len(batch.items)
    e, f = unit(n, 5, 1).requires_grad_(), unit(n, 4, 2).requires_grad_()
    objective_loss({"relevance": e}, f, batch, "mtsh", TAU_P, TAU_Q, W_R, True)[0].backward()
    assert e.grad is not None
    assert f.grad is None


def test_equal_student_and_teacher_cost_nothing() -> None:
    logits = torch.randn(5, 7)
    assert float(relevance_loss(logits, logits + 2)) == pytest.approx(0, abs=1e-6)
