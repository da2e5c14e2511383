"""What requests see: versions that are loaded and warm, and which of them a user gets."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mtmh.experiment.arms import BUCKETS, Arm, assign, bucket
from serving.router.package import Package
from serving.router.settings import ExperimentSettings
from serving.triton.served import Served


@dataclass(eq=False)
class Live:
    """A version in use, and how many requests are using it."""

    package: Package
    in_flight: int = 0

    @contextmanager
    def used(self) -> Iterator[Package]:
        """The version stays loaded while this is open."""
        self.in_flight += 1
        try:
            yield self.package
        finally:
            self.in_flight -= 1


@dataclass(frozen=True)
class Serving:
    """What requests see, replaced as a whole: a request takes one version and asks it alone."""

    named: Served  # the champion, and the canary where it is loaded
    live: dict[str, Live]
    experiment: ExperimentSettings

    @property
    def champion(self) -> str:
        """The version of everybody else."""
        return self.named.champion

    def choose(self, user_id: str | None, request_id: str = "") -> tuple[Live, Arm | None]:
        """The version for a user, and the arm; None for nobody in particular, and where there is no
        experiment.

        Where there is none, the canary has its share of the users, or, of requests for nobody in
        particular, of these: the same user gets the same version every time.
        """
        arms, (champion, canary, share) = self.experiment.arms, self.named
        if user_id is not None and arms:
            arm = assign(user_id, self.experiment.salt, arms)
            return self.live[arm.version or champion], arm
        unit = user_id or request_id
        is_chosen = bool(canary and unit and not arms) and (
            bucket(unit, f"canary {canary} ") < share * BUCKETS
        )
        return self.live[canary if is_chosen else champion], None
