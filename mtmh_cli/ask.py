"""Questions to a run: what is similar to an item, what would a user get."""

from typing import TYPE_CHECKING, Annotated

import typer

from mtmh.display import visible
from mtmh.errors import UserError
from mtmh_cli.application import Alpha, Count, Run, app

if TYPE_CHECKING:
    from mtmh.retrieval.query import CandidateLine


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

    retriever = query.load(run)
    quota = retrieval_settings(run).alpha if alpha is None else alpha
    print(visible(query.describe(retriever, item), 300))
    for name, candidates in query.similar(retriever, item, count, quota).items():
        _show_candidates(
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

    if (user is None) == (history is None):
        raise UserError(
            "give a user or a history: mtmh recommend RUN USER,"
            " or mtmh recommend RUN --history A,B."
        )
    settings = retrieval_settings(run)
    quota = settings.alpha if alpha is None else alpha
    # A test user's list was kept by the evaluation; for any other history it is made now.
    if user is not None:
        candidates = query.evaluated(run, user, count, quota)
    else:
        candidates = query.recommend(
            query.load(run), (history or "").split(","), count, quota, settings
        )
    _show_candidates(f"{user or 'this history'}, alpha {quota}", candidates, with_trigger=True)


def _show_candidates(
    title: str, candidates: "list[CandidateLine]", with_trigger: bool = False
) -> None:
    """Print a list of candidates as a table."""
    from mtmh_cli.summary import plain_table, screen

    table = plain_table(title)
    for name in ("item", "title", "topics", "head", *(["trigger"] if with_trigger else [])):
        table.add_column(name)
    table.add_column("p(item | user)" if with_trigger else "cosine", justify="right")
    for candidate in candidates:
        trigger = [candidate.trigger_id] if with_trigger else []
        names = (candidate.item_id, candidate.title, candidate.topics, candidate.head, *trigger)
        texts = (visible(text, 120) for text in names)
        table.add_row(*texts, f"{candidate.score:.{4 if with_trigger else 3}f}")
    screen().print(table)
