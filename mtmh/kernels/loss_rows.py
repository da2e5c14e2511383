"""Both losses with their gradients, a row of the similarity matrix at a time, on the CPU.

One pass over memory in place of some twenty: a row and its scratch stay in the first cache, and the
gradient takes the similarity's place. The exponential is a polynomial, so that the compiler turns
every loop below into vector instructions. Sums and exponentials are float32's also where the matrix
is of bfloat16.
"""

import numpy as np
import torch
from numba import njit
from torch import Tensor

from mtmh.data.sampler import Batch
from mtmh.kernels.bfloat16 import as_numpy, load_f32, store_f32
from mtmh.model.losses import MASKED

LOG2_E = np.float32(1.4426950408889634)  # exp(x) is 2^(x * LOG2_E)
MASK = np.float32(MASKED)
# 2^x on [-1/2, 1/2]: its Taylor series, ln(2)^k / k!, to less than the rounding of float32.
C1, C2, C3, C4, C5, C6, C7 = (
    np.float32(np.log(2.0) ** k / np.prod(np.arange(1.0, k + 1))) for k in range(1, 8)
)


def row_losses(
    similarity: Tensor,
    teacher_similarity: Tensor | None,
    batch: Batch,
    weights: tuple[float, float],
    has_content: Tensor,
    logq: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """L_e and L_r of a batch, and the gradient of weights[0] * L_e + weights[1] *
    L_r in `similarity`.

    Arguments: `similarity` float32 or bfloat16 [B, P], <trigger, column> / tau_p, neither masked
    nor corrected; `teacher_similarity` [B, P], the same of the content at tau_q, None where
    weights[1] is 0; `has_content` bool [B], rows that the teacher has something to say on; `logq`
    subtracts batch.log_q in L_e. The losses are float64 scalars, averaged over the batch and not
    weighed, 0 for one whose weight is 0. The gradient lies where `similarity` was and is of its
    type.
    """
    # A loss a row, in float64: their mean over the batch is not rounded to float32.
    losses = np.zeros((2, len(similarity)))
    _row_losses(
        as_numpy(similarity),
        # Numba wants an array of the same type in any case; an empty one is never read.
        as_numpy(similarity[:0] if teacher_similarity is None else teacher_similarity),
        batch.log_count.numpy(),
        # Once for the batch: what logQ takes from a logit divides its exponential.
        np.exp(-batch.log_q.numpy()) if logq else np.ones(len(batch.log_q), dtype=np.float32),
        batch.positive.numpy(),
        batch.weight.numpy(),
        has_content.numpy(),
        (batch.hit_row.numpy(), batch.hit_column.numpy()),
        (np.float32(weights[0]), np.float32(weights[1])),
        losses,
    )
    engagement, relevance = torch.from_numpy(losses.mean(axis=1))
    return engagement, relevance, similarity


def add_to_rows(rows: Tensor, index: Tensor, scale: float, out: Tensor) -> None:
    """out[index[i]] += scale * rows[i], in order; `rows` float32 or bfloat16 [B,
    d], `out` float32 [n, d].
    """
    _add_to_rows(as_numpy(rows), index.numpy(), np.float32(scale), out.numpy())


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _row_losses(  # type: ignore[no-untyped-def]
    similarity, teacher, log_count, inverse_q, positive, weight, has_content, hits, weights, losses
):
    rows, columns = similarity.shape
    hit_row, hit_column = hits
    first = last = 0  # the row's hits
    logit, teacher_logit = np.empty(columns, dtype=np.float32), np.empty(columns, dtype=np.float32)
    p, q = np.empty(columns, dtype=np.float32), np.zeros(columns, dtype=np.float32)
    for row in range(rows):
        # Hits are in the order of their rows: one pass over them serves all.
        while last < len(hit_row) and hit_row[last] == row:
            last += 1
        target, masked, first = positive[row], hit_column[first:last], last
        _logits(similarity[row], log_count, target, masked, logit)
        # One exponential serves both losses: L_r takes the plain sum, L_e the corrected one.
        most, total, corrected_total = exponentials(logit, inverse_q, p)
        log_z = most + np.log(np.float64(total))
        engagement_scale = weights[0] * weight[row] / np.float32(rows)
        relevance_scale = weights[1] / np.float32(rows)
        from_q = np.float32(0)
        if weights[0] > 0:  # what logQ takes from a logit divides its exponential
            corrected_log_z = (
                most + np.log(np.float64(corrected_total)) - np.log(np.float64(inverse_q[target]))
            )
            losses[0, row] = weight[row] * (corrected_log_z - logit[target])
        if weights[1] > 0 and has_content[row]:
            _logits(teacher[row], log_count, target, masked, teacher_logit)
            most, total_q, _ = exponentials(teacher_logit, inverse_q, q)
            # L_r is how far the student is from the teacher: the sum of q * (log q - log p).
            difference = np.float32(0)
            for column in range(columns):
                difference += q[column] * (teacher_logit[column] - logit[column])
            losses[1, row] = difference / total_q + log_z - (most + np.log(np.float64(total_q)))
            from_q = relevance_scale / total_q
        # Both gradients in one pass, where the logits were: p - q of L_r, and p - 1 at the
        # positive of L_e.
        from_p = relevance_scale / total if from_q > 0 else np.float32(0)
        from_corrected = engagement_scale / corrected_total
        for column in range(columns):
            logit[column] = (
                p[column] * (from_p + from_corrected * inverse_q[column]) - from_q * q[column]
            )
        logit[target] -= engagement_scale
        out = similarity[row]
        for column in range(columns):
            out[column] = store_f32(logit[column], out[column])


# What `_row_losses` calls is part of it (inline): as functions of their own they would be compiled
# twice, summing in another order, and a machine's first run would use the one copy, later runs the
# other.
@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _logits(similarity, log_count, positive, masked, out):  # type: ignore[no-untyped-def]
    """Similarity plus the column's log multiplicity, which the positive has not;
    MASKED at accidental hits.
    """
    for column in range(len(out)):
        out[column] = load_f32(similarity[column]) + log_count[column]
    out[positive] = load_f32(similarity[positive])
    for column in masked:
        out[column] = MASK


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def exponentials(logit, inverse_q, out):  # type: ignore[no-untyped-def]
    """exp(logit - most) into `out`; returns most, their sum, and their sum with
    the corrections of logQ.
    """
    most, total, corrected_total = _max(logit), np.float32(0), np.float32(0)
    for column in range(len(logit)):  # exp(x) = 2^whole * 2^rest
        # 2^-127 has the bits of 0: a masked column is left with nothing, and
        # with no denormal number, of which each costs an Intel processor a
        # hundred cycles in every product that meets it.
        x = max((logit[column] - most) * LOG2_E, np.float32(-127))
        whole = np.floor(x + np.float32(0.5))
        rest = x - whole
        power = np.int32((np.int32(whole) + np.int32(127)) << np.int32(23)).view(np.float32)
        high = C4 + rest * (C5 + rest * (C6 + rest * C7))
        exponential = power * (
            np.float32(1) + rest * (C1 + rest * (C2 + rest * (C3 + rest * high)))
        )
        out[column] = exponential
        total += exponential
        corrected_total += exponential * inverse_q[column]
    return most, total, corrected_total


@njit(cache=True, fastmath=True, error_model="numpy", inline="always")
def _max(logit):  # type: ignore[no-untyped-def]
    """The greatest logit, by integers in the floats' order: compilers do not
    vectorize a maximum of floats.
    """
    numbers, low = logit.view(np.int32), np.int32(0x7FFFFFFF)
    greatest = np.int32(-low - 1)
    for column in range(len(logit)):
        number = numbers[column]
        greatest = max(greatest, number ^ ((number >> np.int32(31)) & low))
    return np.int32(greatest ^ ((greatest >> np.int32(31)) & low)).view(np.float32)


@njit(nogil=True, cache=True, fastmath=True, error_model="numpy")
def _add_to_rows(rows, index, scale, out):  # type: ignore[no-untyped-def]
    for i in range(len(rows)):
        source, target = rows[i], out[index[i]]
        for j in range(len(source)):
            target[j] += load_f32(source[j]) * scale
