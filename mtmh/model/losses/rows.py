"""Both losses with their gradients, a row of the similarity matrix at a time, for float32 on the CPU.

The values of `losses_by_matrix` (a test holds them together) from one pass over memory in place of some twenty: a row
and its scratch stay in the first cache, and the gradient takes the similarity's place. The exponential is a polynomial,
so that the compiler turns every loop below into vector instructions.
"""

import numpy as np
import torch
from numba import njit, prange
from torch import Tensor

from mtmh.data.sampler import Batch
from mtmh.model.losses.relevance import MASKED

LOG2_E = np.float32(1.4426950408889634)
MASK = np.float32(MASKED)
# 2^x on [-1/2, 1/2]: its Taylor series, ln(2)^k / k!, to less than the rounding of float32.
C1, C2, C3, C4, C5, C6, C7 = (np.float32(np.log(2.0) ** k / np.prod(np.arange(1.0, k + 1))) for k in range(1, 8))
BLOCKS = 64  # of rows: the unit of work of a thread
NOTHING = np.empty((0, 0), dtype=np.float32)


def losses_by_row(
    similarity: Tensor, teacher: Tensor | None, batch: Batch, share: tuple[float, float], known: Tensor, logq: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """What `losses_by_matrix` returns, of the same arguments in float32 on the CPU; `similarity` is overwritten.

    The losses are float64, the gradient lies where `similarity` was.
    """
    rows = len(similarity)
    hit_row, order = torch.sort(batch.hit_row)
    start = torch.searchsorted(hit_row, torch.arange(rows + 1))
    found = np.zeros((2, rows))
    _rows(
        similarity.numpy(),
        NOTHING if teacher is None else teacher.numpy(),
        batch.log_count.numpy(),
        batch.log_q.numpy() if logq else np.zeros(len(batch.log_q), dtype=np.float32),
        batch.positive.numpy(),
        batch.weight.numpy(),
        known.numpy(),
        (start.numpy(), batch.hit_column[order].numpy()),
        (np.float32(share[0]), np.float32(share[1])),
        found,
    )
    engagement, relevance = torch.from_numpy(found.mean(axis=1))
    return engagement, relevance, similarity


@njit(parallel=True, cache=True, fastmath=True, error_model="numpy")
def _rows(similarity, teacher, log_count, log_q, positive, weight, known, hits, share, found):  # type: ignore[no-untyped-def]
    rows, columns = similarity.shape
    start, hit = hits
    for block in prange(BLOCKS):
        logit, other = np.empty(columns, dtype=np.float32), np.empty(columns, dtype=np.float32)
        p, q = np.empty(columns, dtype=np.float32), np.empty(columns, dtype=np.float32)
        bits = np.empty(columns, dtype=np.int32)
        for row in range(rows * block // BLOCKS, rows * (block + 1) // BLOCKS):
            slope, at, masked = similarity[row], positive[row], hit[start[row] : start[row + 1]]
            _logits(slope, log_count, at, masked, logit)
            slope[:] = 0
            if share[0] > 0:
                for column in range(columns):
                    other[column] = logit[column] - log_q[column]
                log_z = _softmax(other, p, bits)
                found[0, row] = weight[row] * (log_z - np.float64(other[at]))
                scale = share[0] * weight[row] / rows
                for column in range(columns):
                    slope[column] = scale * p[column]
                slope[at] -= scale
            if share[1] > 0 and known[row]:
                _logits(teacher[row], log_count, at, masked, other)
                log_z = _softmax(logit, p, bits) - _softmax(other, q, bits)
                divergence, scale = np.float32(0), share[1] / np.float32(rows)
                for column in range(columns):
                    divergence += q[column] * (other[column] - logit[column])
                    slope[column] += scale * (p[column] - q[column])
                found[1, row] = divergence + log_z


@njit(cache=True, fastmath=True, error_model="numpy")
def _logits(similarity, log_count, positive, masked, out):  # type: ignore[no-untyped-def]
    """Similarity plus the column's log multiplicity, which the positive has not; MASKED at accidental hits."""
    for column in range(len(out)):
        out[column] = similarity[column] + log_count[column]
    out[positive] = similarity[positive]
    for column in masked:
        out[column] = MASK


@njit(cache=True, fastmath=True, error_model="numpy")
def _softmax(logit, out, bits):  # type: ignore[no-untyped-def]
    """The softmax of `logit` into `out`; returns log of the sum of exponentials."""
    most, power = _greatest(logit, bits), bits.view(np.float32)
    for column in range(len(logit)):  # exp(x) = 2^whole * 2^rest
        x = max((logit[column] - most) * LOG2_E, np.float32(-126))
        whole = np.floor(x + np.float32(0.5))
        rest = x - whole
        bits[column] = (np.int32(whole) + np.int32(127)) << np.int32(23)
        high = C4 + rest * (C5 + rest * (C6 + rest * C7))
        out[column] = np.float32(1) + rest * (C1 + rest * (C2 + rest * (C3 + rest * high)))
    total = np.float32(0)
    for column in range(len(logit)):
        out[column] *= power[column]
        total += out[column]
    scale = np.float32(1) / total
    for column in range(len(logit)):
        out[column] *= scale
    return np.float64(most) + np.log(np.float64(total))


@njit(cache=True, fastmath=True, error_model="numpy")
def _greatest(logit, bits):  # type: ignore[no-untyped-def]
    """The greatest logit, by integers in the floats' order: compilers do not vectorize a maximum of floats."""
    numbers, low = logit.view(np.int32), np.int32(0x7FFFFFFF)
    greatest = np.int32(-low - 1)
    for column in range(len(logit)):
        number = numbers[column]
        greatest = max(greatest, number ^ ((number >> np.int32(31)) & low))
    bits[0] = greatest ^ ((greatest >> np.int32(31)) & low)
    return bits.view(np.float32)[0]
