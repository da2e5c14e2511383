"""Both losses with their gradients, a row of the similarity matrix at a time, on the CPU.

The values of `losses_by_matrix` (a test holds them together) from one pass over memory in place of some twenty: a row
and its scratch stay in the first cache, and the gradient takes the similarity's place. The exponential is a polynomial,
so that the compiler turns every loop below into vector instructions. Sums and exponentials are float32's also where
the matrix is of bfloat16.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numba import njit
from torch import Tensor

from mtmh.data.sampler import Batch
from mtmh.model.bfloat16 import numbers, single, stored
from mtmh.model.by_row import add_up
from mtmh.model.losses.relevance import MASKED

LOG2_E = np.float32(1.4426950408889634)
MASK = np.float32(MASKED)
# 2^x on [-1/2, 1/2]: its Taylor series, ln(2)^k / k!, to less than the rounding of float32.
C1, C2, C3, C4, C5, C6, C7 = (np.float32(np.log(2.0) ** k / np.prod(np.arange(1.0, k + 1))) for k in range(1, 8))


def losses_by_row(
    similarity: Tensor, teacher: Tensor | None, batch: Batch, share: tuple[float, float], known: Tensor, logq: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """What `losses_by_matrix` returns, of the same arguments in float32 or bfloat16 on the CPU.

    The losses are float64, the gradient lies where `similarity` was and is of its type.
    """
    found = np.zeros((2, len(similarity)))
    _rows(
        numbers(similarity),
        numbers(similarity[:0] if teacher is None else teacher),
        batch.log_count.numpy(),
        np.exp(-batch.log_q.numpy()) if logq else np.ones(len(batch.log_q), dtype=np.float32),
        batch.positive.numpy(),
        batch.weight.numpy(),
        known.numpy(),
        (batch.hit_row.numpy(), batch.hit_column.numpy()),
        (np.float32(share[0]), np.float32(share[1])),
        found,
    )
    engagement, relevance = torch.from_numpy(found.mean(axis=1))
    return engagement, relevance, similarity


def gradient_by_row(columns: Sequence[Tensor], triggers: Tensor, batch: Batch, tau: float, unit: Tensor) -> Tensor:
    """What `gradient_by_matrix` returns."""
    gradient = torch.empty_like(unit)
    size = len(batch.log_count)
    add_up(columns, gradient[:size])
    gradient[size:] = 0
    _add_rows(numbers(triggers), batch.trigger.numpy(), np.float32(1 / tau), gradient.numpy())
    return gradient


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _rows(similarity, teacher, log_count, rarity, positive, weight, known, hits, share, found):  # type: ignore[no-untyped-def]
    rows, columns = similarity.shape
    hit_row, hit_column = hits
    first = last = 0  # the row's hits
    logit, taught = np.empty(columns, dtype=np.float32), np.empty(columns, dtype=np.float32)
    p, q = np.empty(columns, dtype=np.float32), np.zeros(columns, dtype=np.float32)
    for row in range(rows):
        while last < len(hit_row) and hit_row[last] == row:
            last += 1
        at, masked, first = positive[row], hit_column[first:last], last
        _logits(similarity[row], log_count, at, masked, logit)
        most, total, rare = exponentials(logit, rarity, p)
        log_z = most + np.log(np.float64(total))
        by_engagement = share[0] * weight[row] / np.float32(rows)
        by_relevance = share[1] / np.float32(rows)
        from_q = np.float32(0)
        if share[0] > 0:  # what logQ takes from a logit divides its exponential
            log_rare = most + np.log(np.float64(rare)) - np.log(np.float64(rarity[at]))
            found[0, row] = weight[row] * (log_rare - logit[at])
        if share[1] > 0 and known[row]:
            _logits(teacher[row], log_count, at, masked, taught)
            most, total_q, _ = exponentials(taught, rarity, q)
            apart = np.float32(0)
            for column in range(columns):
                apart += q[column] * (taught[column] - logit[column])
            found[1, row] = apart / total_q + log_z - (most + np.log(np.float64(total_q)))
            from_q = by_relevance / total_q
        from_p = by_relevance / total if from_q > 0 else np.float32(0)
        from_rare = by_engagement / rare
        for column in range(columns):
            logit[column] = p[column] * (from_p + from_rare * rarity[column]) - from_q * q[column]
        logit[at] -= by_engagement
        to = similarity[row]
        for column in range(columns):
            to[column] = stored(logit[column], to[column])


@njit(cache=True, fastmath=True, error_model="numpy")
def _logits(similarity, log_count, positive, masked, out):  # type: ignore[no-untyped-def]
    """Similarity plus the column's log multiplicity, which the positive has not; MASKED at accidental hits."""
    for column in range(len(out)):
        out[column] = single(similarity[column]) + log_count[column]
    out[positive] = single(similarity[positive])
    for column in masked:
        out[column] = MASK


@njit(cache=True, fastmath=True, error_model="numpy")
def exponentials(logit, rarity, out):  # type: ignore[no-untyped-def]
    """exp(logit - most) into `out`; returns most, their sum, and their sum with each times its column's rarity."""
    most, total, rare = _greatest(logit), np.float32(0), np.float32(0)
    for column in range(len(logit)):  # exp(x) = 2^whole * 2^rest
        x = max((logit[column] - most) * LOG2_E, np.float32(-126))
        whole = np.floor(x + np.float32(0.5))
        rest = x - whole
        power = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)
        high = C4 + rest * (C5 + rest * (C6 + rest * C7))
        one = power * (np.float32(1) + rest * (C1 + rest * (C2 + rest * (C3 + rest * high))))
        out[column] = one
        total += one
        rare += one * rarity[column]
    return most, total, rare


@njit(cache=True, fastmath=True, error_model="numpy")
def _greatest(logit):  # type: ignore[no-untyped-def]
    """The greatest logit, by integers in the floats' order: compilers do not vectorize a maximum of floats."""
    numbers, low = logit.view(np.int32), np.int32(0x7FFFFFFF)
    greatest = np.int32(-low - 1)
    for column in range(len(logit)):
        number = numbers[column]
        greatest = max(greatest, number ^ ((number >> np.int32(31)) & low))
    return np.int32(greatest ^ ((greatest >> np.int32(31)) & low)).view(np.float32)


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _add_rows(rows, at, scale, out):  # type: ignore[no-untyped-def]
    for i in range(len(rows)):
        row, to = rows[i], out[at[i]]
        for j in range(len(row)):
            to[j] += single(row[j]) * scale
