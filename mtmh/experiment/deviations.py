"""Answers that are not what their arm stands for: degraded ones, and those with an alpha of the caller's own.

Users stay in their arm whatever they were answered (intention to treat): to leave out whom a failure met would leave
out other users in one arm than in the other. So what counts is whether such answers are few, and alike in both arms.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import norm

DEVIATIONS = {"own_alpha": "answers with an alpha of their own", "degraded": "degraded answers"}


@dataclass(frozen=True)
class Deviation:
    """One kind of such answers in the arms that are compared."""

    name: str  # a key of DEVIATIONS
    answers: Mapping[str, tuple[int, int]]  # arm -> such answers, and all of the arm's answers
    p: float  # of the shares' difference between the arms, with users as the units; NaN where an arm has no answers

    @property
    def shares(self) -> dict[str, float]:
        """Arm -> share of its answers; 0 where it has none."""
        return {arm: deviating / max(answers, 1) for arm, (deviating, answers) in self.answers.items()}


def deviations(answered: ir.Table, arms: Sequence[str]) -> tuple[Deviation, ...]:
    """Every kind, of two arms; `answered` has arm, user_id, own_alpha and degraded (bool), a row an answer."""
    sums = {name: answered[name].cast("int64").sum() for name in DEVIATIONS}
    by_user = answered.group_by("arm", "user_id").agg(answers=ibis._.count(), **sums).to_pyarrow()
    of_arm = [by_user.filter(pc.equal(by_user["arm"], arm)) for arm in arms]
    return tuple(_deviation(name, dict(zip(arms, of_arm, strict=True))) for name in DEVIATIONS)


def _deviation(name: str, users: Mapping[str, pa.Table]) -> Deviation:
    counts = {arm: (table[name].to_numpy(), table["answers"].to_numpy()) for arm, table in users.items()}
    totals = {arm: (int(deviating.sum()), int(answers.sum())) for arm, (deviating, answers) in counts.items()}
    (share, variance), (other, other_variance) = (_share(*columns) for columns in counts.values())
    error = np.sqrt(variance + other_variance)
    p = float(2 * norm.sf(abs(share - other) / error)) if error > 0 else 1.0 if share == other else float("nan")
    return Deviation(name, totals, p)


def _share(deviating: np.ndarray, answers: np.ndarray) -> tuple[float, float]:
    """The share of the answers and its variance by the delta method, as answers of one user are not independent."""
    total = answers.sum()
    if not total:
        return float("nan"), float("nan")
    share = deviating.sum() / total
    return float(share), float(((deviating - share * answers) ** 2).sum() / total**2)
