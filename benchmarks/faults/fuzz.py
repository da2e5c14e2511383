"""Requests made up by schemathesis from the router's own OpenAPI page."""

import itertools
import warnings
from collections import Counter
from typing import Any

import requests

from benchmarks.load import NO_ANSWER, undeclared

TURN = 40  # of one operation, before the next has its turn


def fuzz(url: str, count: int) -> tuple[Counter[int], list[str]]:
    """Statuses of at least `count` requests over all operations, seeded; and in words, those that
    must not be.

    Half of the turns are requests as the page says they must be, half are wrong in some way. No
    answer counts as 0. What must not be: no answer, and one below 400 or from 500 on that the page
    does not declare for its operation.
    """
    import schemathesis
    from schemathesis import GenerationMode
    from schemathesis.core.result import Ok

    schema = schemathesis.openapi.from_url(f"{url}/openapi.json")
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    # Operations take turns until there are enough requests: each gets about the same share.
    turns = itertools.cycle(
        itertools.product(operations, (GenerationMode.POSITIVE, GenerationMode.NEGATIVE))
    )
    statuses, wrong = Counter[int](), list[str]()
    with requests.Session() as http, warnings.catch_warnings():
        # schemathesis and hypothesis warn about themselves, not about the router.
        warnings.simplefilter("ignore")
        for number, (operation, mode) in enumerate(turns):
            if statuses.total() >= count:
                break
            _turn(operation, mode, number, http, statuses, wrong)
    return statuses, wrong


def _turn(
    operation: Any,
    mode: Any,
    number: int,
    http: requests.Session,
    statuses: Counter[int],
    wrong: list[str],
) -> None:
    """TURN requests to one operation, fewer where there are not as many."""
    from hypothesis import HealthCheck, Phase, given, seed, settings
    from hypothesis.errors import Unsatisfiable

    # Failures are counted, not reduced or remembered; a router under load may be slow.
    quiet = settings(
        max_examples=TURN,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    declared = {int(status) for status in operation.definition.raw["responses"]}

    @seed(number)
    @quiet
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        try:
            response = case.call(session=http)
        except requests.RequestException as error:
            # No answer at all is never right, whatever was sent.
            statuses[NO_ANSWER] += 1
            wrong.append(f"{case.method} {case.path}: {error!r}")
            return
        status = response.status_code
        statuses[status] += 1
        is_wrong = undeclared(status, response.headers.get("retry-after"), declared)
        if is_wrong or (status < 400 and status not in declared):
            wrong.append(f"{case.method} {case.path} answered {status}: {case.body!r:.300}")

    try:
        ask()
    except Unsatisfiable:
        return  # an operation without arguments cannot be asked wrongly
