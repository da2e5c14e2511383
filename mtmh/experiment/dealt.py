"""An A/A test of a log without an experiment: its users dealt to two arms that are served alike.

What an A/B test would show then is chance, and what is wrong in the log: lifts should lie around 0,
the sample ratio should be even. It also gives everything that is looked at by arm (the monitor's
figures, drift, bounds) a log to look at.
"""

from dataclasses import replace

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from mtmh.experiment.arms import Arm, assign_all
from mtmh.exposures.read import LogRelations

SALT = "mtmh.a-a/"  # a user stays in one of the halves
HALVES = (Arm(name="first half"), Arm(name="second half"))
ABOUT = (
    "An A/A test: no experiment is declared, and the users are dealt to two halves that are served"
    " alike. A difference between these is chance, or a fault in the log."
)


def deal(log: LogRelations, arm: str, salt: str, arms: tuple[Arm, ...]) -> LogRelations:
    """The log with the users whom `arm` served in the `arms` that `salt` and weights give them;
    answers to nobody in particular, and of other arms, stay as they are.
    """
    served = log.exposures.filter(log.exposures.arm == arm, log.exposures.user_id.notnull())
    users = served.select("user_id").distinct().to_pyarrow()["user_id"].combine_chunks()
    dealt = pa.table({"user_id": users, "dealt": assign_all(users, salt, arms)})
    exposures = log.exposures.left_join(ibis.memtable(dealt), "user_id")
    is_dealt: ir.BooleanValue = (exposures.arm == arm) & exposures.dealt.notnull()
    named = exposures.mutate(arm=ibis.ifelse(is_dealt, exposures.dealt, exposures.arm))
    return replace(log, exposures=named.select(*log.exposures.columns))
