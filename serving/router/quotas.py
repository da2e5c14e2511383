"""The quotas of one answer: what the caller, the arm or the version says each channel gives.

`alpha`, the percent from the engagement head, is the short form of two channels' quotas. A version
of more has them by name alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtmh.errors import UserError
from mtmh.experiment.arms import Arm
from mtmh.head_settings import quotas_text
from mtmh.retrieval.channels import Channel
from mtmh.retrieval.merge import quotas_at
from serving.router.package import Package


@dataclass(frozen=True)
class Quotas:
    """In percent, 100 in all, in the order of the version's channels."""

    channels: tuple[str, ...]
    percent: tuple[float, ...]
    alpha: float | None  # None where the channels have no such short form

    @classmethod
    def of_alpha(cls, channels: Sequence[Channel], alpha: float) -> "Quotas":
        """Raises UserError where alpha does not say what each of the channels gives."""
        names = tuple(channel.name for channel in channels)
        if not _has_alpha(names):
            default = {channel.name: channel.quota for channel in channels}
            raise UserError(
                f"alpha: this version has the channels {', '.join(names)}, and alpha says what two"
                f" of them give, engagement and another. Give quotas, such as {default}."
            )
        return cls(names, quotas_at(alpha, names), alpha)

    @classmethod
    def by_name(cls, channels: Sequence[Channel], quotas: Mapping[str, float]) -> "Quotas":
        """A channel that `quotas` does not name gives nothing. Raises UserError for one that the
        version does not have.
        """
        names = tuple(channel.name for channel in channels)
        if unknown := sorted(set(quotas) - set(names)):
            raise UserError(
                f"quotas: this version has no channel {unknown[0]!a}; it has {', '.join(names)}."
            )
        percent = tuple(float(quotas.get(name, 0.0)) for name in names)
        alpha = float(quotas.get("engagement", 0.0)) if _has_alpha(names) else None
        return cls(names, percent, alpha)

    @classmethod
    def served(cls, package: Package, arm: Arm | None) -> "Quotas":
        """What the arm has, or else the version: its channels' own, or their short form.

        Raises UserError where the arm's quotas are not this version's.
        """
        channels = package.channels
        if arm and arm.quotas is not None:
            return cls.by_name(channels, arm.quotas)
        if arm and arm.alpha is not None:
            return cls.of_alpha(channels, arm.alpha)
        if _has_alpha([channel.name for channel in channels]):
            return cls.of_alpha(channels, float(package.serving["alpha"]))
        return cls.by_name(channels, {channel.name: channel.quota for channel in channels})

    def answered(self) -> dict[str, Any]:
        """As an answer says it: by name only where alpha does not."""
        named = {} if self.alpha is not None else {"quotas": self.named()}
        return {"alpha": self.alpha, **named}

    def named(self) -> dict[str, float]:
        """Channel -> percent."""
        return dict(zip(self.channels, self.percent, strict=True))

    @property
    def logged(self) -> str | None:
        """As the log has it beside alpha, None where alpha says it."""
        return quotas_text(self.named()) if self.alpha is None else None


def misfit(arms: Sequence[Arm], packages: Sequence[Package]) -> str:
    """Why an arm's quotas are none of its version's, `packages` beside the arms; empty where all
    are.
    """
    for arm, package in zip(arms, packages, strict=True):
        try:
            Quotas.served(package, arm)
        except UserError as error:
            return f"arm {arm.name!r}, version {package.number}: {error}"
    return ""


def _has_alpha(names: Sequence[str]) -> bool:
    """A channel alone gives all, whatever alpha says."""
    return len(names) == 1 or (len(names) == 2 and "engagement" in names)
