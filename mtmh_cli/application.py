"""The application that commands register with, and its entry point."""

import sys
from pathlib import Path

import typer

from mtmh.disk import full_disk_explained
from mtmh.display import visible_lines
from mtmh.environment import set_environment
from mtmh.errors import UserError

app = typer.Typer(
    help="Item-to-item retrieval that is both engaging and relevant: from an interaction log"
    " to a gated retriever.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Entry point: a UserError and a full disk are one message and exit status 2."""
    set_environment()
    try:
        with full_disk_explained(Path.cwd()):
            app()
    except UserError as error:
        print(f"mtmh: {visible_lines(str(error))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print(
            "mtmh: interrupted. Finished steps are kept: the same command goes on from there.",
            file=sys.stderr,
        )
        sys.exit(130)
