"""The page's sentences and numbers: what was corrected for, and what a comparison cannot tell."""

from typing import Any

from mtmh.experiment.statistics.sample_ratio import ALARM, SampleRatio
from monitoring.ab.comparison import Comparison
from monitoring.ab.segments import HEAVY_SHARE, LEAST_USERS, NEW_DAYS
from monitoring.ab.verdict import signed


def count(number: int, noun: str) -> str:
    """A number with its noun: 1 day, 2 days."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def value(number: float, unit: str) -> str:
    """A metric's value as the page shows it; a dash where there is none."""
    if number != number:
        return "—"
    if unit == "share":
        return f"{100 * number:.2f}\u00a0%"
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4g}"


def p_value(p: float) -> str:
    """A p-value to three digits, never as a bare 0."""
    if p != p:
        return "—"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def ratio(found: SampleRatio) -> dict[str, Any]:
    """The sample ratio in a sentence, and a row an arm."""
    rows = [
        {
            "arm": arm,
            "observed": found.observed.get(arm, 0),
            "expected": expected,
            "difference": signed(found.observed.get(arm, 0) / expected - 1) if expected else "—",
        }
        for arm, expected in found.expected.items()
    ]
    says = f"A chi-square test of the users in each arm against the buckets' shares gives p = {p_value(found.p)}"
    end = (
        f": an alarm (p below {ALARM:g}). Users are missing from an arm, and no figure here can be trusted."
        if found.alarm
        else f": no alarm (that is at p below {ALARM:g})."
    )
    return {"words": (says + end).replace("= <", "<"), "rows": rows}
