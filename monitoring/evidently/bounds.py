"""Bounds of the daily figures: read, tested by Evidently on each day's page, and listed when
broken.
"""

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pyarrow as pa
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from monitoring.evidently.figures import FAMILIES, title_of
from mtmh.errors import UserError, fault_lines

if TYPE_CHECKING:
    from evidently.core.metric_types import MetricTest

DEFAULT = Path(__file__).with_name("bounds.yaml")
ANY = "*"


class Bound(BaseModel):
    """The values that a figure may have, both ends included."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _check_ends(self) -> "Bound":
        if self.min is None and self.max is None:
            raise ValueError("a bound needs a min or a max")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} lies above max {self.max}")
        return self

    def holds(self, value: float) -> bool:
        """Whether `value` is within."""
        return not (
            (self.min is not None and value < self.min)
            or (self.max is not None and value > self.max)
        )

    def __str__(self) -> str:
        ends = (("at least", self.min), ("at most", self.max))
        return " and ".join(f"{words} {end:g}" for words, end in ends if end is not None)


class Bounds(BaseModel):
    """The file bounds.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bounds: dict[str, dict[str, Bound]] = {}  # family -> figure, or "*" -> bound
    retrain: list[str] = []  # families that raise a retraining run
    pause_days: Annotated[int, Field(ge=0)] = 7  # and not again for so long

    @model_validator(mode="after")
    def _check_families(self) -> "Bounds":
        if unknown := sorted({*self.bounds, *self.retrain} - set(FAMILIES)):
            raise ValueError(
                f"no family of figures: {', '.join(unknown)}; known: {', '.join(FAMILIES)}"
            )
        return self

    def of(self, family: str, label: str) -> Bound | None:
        """The bound of one figure, or None."""
        family_bounds = self.bounds.get(family, {})
        return family_bounds.get(label, family_bounds.get(ANY))

    def tests(self, family: str, labels: list[str]) -> dict[str, list["MetricTest"]]:
        """Evidently's tests of the figures `labels`, by label."""
        from evidently.tests import gte, lte

        tests: dict[str, list[MetricTest]] = {}
        for label in labels:
            if bound := self.of(family, label):
                ends = ((gte, bound.min), (lte, bound.max))
                tests[label] = [test(end).for_metric() for test, end in ends if end is not None]
        return tests


@dataclass(frozen=True)
class Broken:
    """A figure outside of its bound."""

    day: date
    family: str
    of: str
    label: str
    value: float
    bound: Bound

    def __str__(self) -> str:
        where = f"{FAMILIES[self.family].title}, {self.of}: {title_of(self.label)}"
        return f"{self.day}  {where} is {self.value:.4g}; wanted {self.bound}"


def read_bounds(path: Path = DEFAULT) -> Bounds:
    """The bounds in a file. Raises UserError that names everything that is wrong with it."""
    try:
        return Bounds.model_validate(yaml.safe_load(path.read_text()) or {})
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file. The bounds that come with the project are in {DEFAULT}."
        ) from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is no YAML: {error}") from None
    except ValidationError as error:
        lines = fault_lines(error)
        example = "bounds: {freshness: {fresh_coverage: {min: 0.1}}}, retrain: [freshness]"
        raise UserError(
            f"{path} has {len(lines)} errors:{''.join(lines)}\nBounds are, say, {example}."
        ) from None


def broken(figures: pa.Table, bounds: Bounds) -> list[Broken]:
    """The figures outside of their bounds, in the table's order."""
    outside = []
    for row in figures.to_pylist():
        bound = bounds.of(row["family"], row["label"])
        if bound is not None and not bound.holds(row["value"]):
            outside.append(Broken(**row, bound=bound))
    return outside


def retraining(outside: list[Broken], bounds: Bounds) -> list[Broken]:
    """The broken bounds that raise a retraining run."""
    return [figure for figure in outside if figure.family in bounds.retrain]
