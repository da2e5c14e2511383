"""How simulated users behave; README.md beside this file says what each number means, and where it
comes from.

The numbers were fixed before arms were compared on this platform, and are not tuned to what a
comparison says.
"""

from dataclasses import dataclass, replace

from mtmh.errors import UserError


@dataclass(frozen=True)
class Behaviour:
    """One kind of population. Chances are of one examined item; times in seconds unless a name says
    otherwise."""

    # The app: how much it asks for, how much of that it shows, how long it does not show an item
    # again.
    list_length: int = 100  # candidates
    page_length: int = 12  # items
    hidden_days: float = 2.0

    # Visits.
    visits_a_day: float = 0.8  # of the average user, neither pleased nor displeased
    # how far apart light and heavy users are: 0 not at all, 1 as in the world
    activity_power: float = 0.7
    most_visits_a_day: float = 6.0
    loyalty: float = 1.0  # how much satisfaction changes the rate of visits, on a log scale
    memory: float = 0.8  # of satisfaction, from one visit to the next
    content_after: float = 60.0  # seconds of dwell that make a visit a good one
    first_satisfaction: float = 0.5  # of 0..1

    # Examination and the reasons to engage.
    scroll: float = 0.9  # chance to look at the next position
    habit: float = 0.40  # engages since the item is of the user's community
    interest: float = 0.30  # since it is of a topic of interest
    fame: float = 0.20  # since many do, for the most popular item
    pull: float = 0.25  # exponent of an item's weight
    glance: float = 0.05  # opens without engaging

    # Latent interests: share of the distance to 1 that an interest's activation goes by one item.
    spark: float = 0.05  # that was examined
    ignition: float = 0.30  # that was engaged with

    # Fatigue: factors of the chance.
    ignored: float = 0.7  # for each time that the item was seen and not engaged with
    satiation: float = 0.85  # for each recent engagement with the topic
    recovery_days: float = 1.0  # until half of it is gone

    # Dwell, and what users do elsewhere.
    wanted_dwell: float = 45.0  # median, of an item of interest
    other_dwell: float = 15.0
    dwell_spread: float = 0.7  # standard deviation of its logarithm
    glance_dwell: float = 4.0
    elsewhere: float = 0.25  # engagements beside the lists, of the world's rate

    @property
    def elsewhere_reasons(self) -> tuple[float, float]:
        """Shares of habit and interest in what users do elsewhere; with all three reasons, the
        law's own."""
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
