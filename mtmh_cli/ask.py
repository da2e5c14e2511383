"""Questions to a run: what is similar to an item, what would a user get."""

from typing import Annotated

import typer

from mtmh.display import visible
from mtmh.errors import UserError
from mtmh_cli.application import app
from mtmh_cli.options import (
    Alpha,
    Count,
    Run,
)


@app.command()
def similar(
    run: Run,
    item: Annotated[str, typer.Argument(help="item_id of the trigger.")],
    alpha: Alpha = None,
    count: Count = 10,
) -> None:
    """Show the candidates for an item: of each head, and merged."""
    from mtmh.retrieval import query
    from mtmh.retrieval.version import retrieval_settings
    from mtmh_cli.summary import show_candidates

    retriever = query.load(run)
    quota = retrieval_settings(run).alpha if alpha is None else alpha
    print(visible(query.describe(retriever, item), 300))
    for name, candidates in query.similar(retriever, item, count, quota).items():
        show_candidates(
            f"{name}, alpha {quota}" if name == "merged" else f"{name} head", candidates
        )


@app.command()
def recommend(
    run: Run,
    user: Annotated[str | None, typer.Argument(help="user_id of a test user of the run.")] = None,
    history: Annotated[
        str | None, typer.Option(help="Instead of a user: item_ids engaged with, A,B,C.")
    ] = None,
    alpha: Alpha = None,
    count: Count = 10,
) -> None:
    """Show what a user would get: a test user's list as evaluated, or a list for any history."""
    from mtmh.retrieval import query
    from mtmh.retrieval.version import retrieval_settings
    from mtmh_cli.summary import show_candidates

    if (user is None) == (history is None):
        raise UserError(
            "give a user or a history: mtmh recommend RUN USER,"
            " or mtmh recommend RUN --history A,B."
        )
    settings = retrieval_settings(run)
    quota = settings.alpha if alpha is None else alpha
    if user is not None:
        candidates = query.evaluated(run, user, count, quota)
    else:
        candidates = query.recommend(
            query.load(run), (history or "").split(","), count, quota, settings
        )
    show_candidates(f"{user or 'this history'}, alpha {quota}", candidates, with_trigger=True)
