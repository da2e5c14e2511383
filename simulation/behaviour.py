"""How simulated users behave; README.md beside this file says what each number means, and where it comes from.

The numbers were fixed before arms were compared on this platform, and are not tuned to what a comparison says.
"""

from dataclasses import dataclass, replace

from mtmh.errors import UserError


@dataclass(frozen=True)
class Behaviour:
    """One kind of population. Chances are of one examined item; times in seconds unless a name says otherwise."""

    # The app: how much it asks for, how much of that it shows, how long it does not show an item again.
    asked: int = 100
    shown: int = 12
    hidden_days: float = 2.0

    # Visits.
    visits_a_day: float = 0.8
    activity_power: float = 0.7
    most_visits_a_day: float = 6.0
    loyalty: float = 1.0
    memory: float = 0.8
    content_after: float = 60.0
    first_satisfaction: float = 0.5

    # Examination and the reasons to engage.
    scroll: float = 0.9
    habit: float = 0.40
    interest: float = 0.30
    fame: float = 0.20
    pull: float = 0.25
    glance: float = 0.05

    # Latent interests.
    spark: float = 0.05
    ignition: float = 0.30

    # Fatigue.
    ignored: float = 0.7
    satiation: float = 0.85
    recovery_days: float = 1.0

    # Dwell, and what users do elsewhere.
    wanted_dwell: float = 45.0
    other_dwell: float = 15.0
    dwell_spread: float = 0.7
    glance_dwell: float = 4.0
    elsewhere: float = 0.25

    @property
    def elsewhere_reasons(self) -> tuple[float, float]:
        """Shares of habit and interest in what users do elsewhere; with all three reasons, the law's own."""
        from mtmh.data.synthetic import HABIT, INTEREST

        interest = INTEREST if self.interest else 0.0
        total = HABIT + interest + (1.0 - HABIT - INTEREST)
        return HABIT / total, interest / total


DEFAULT = Behaviour()
WORLDS: dict[str, Behaviour] = {
    "default": DEFAULT,
    "habit-only": replace(DEFAULT, interest=0.0, spark=0.0, ignition=0.0),
}


def behaviour(world: str) -> Behaviour:
    """The behaviour of a world by its name. Raises UserError when there is no such world."""
    if world not in WORLDS:
        raise UserError(f"there is no world {world!r}. Known: {', '.join(WORLDS)}.")
    return WORLDS[world]
