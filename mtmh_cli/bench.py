"""The benchmarks: a command each, with options of its own. They are part of the checkout, which
names them in pyproject.toml as an entry point; the command line does not know them."""

import importlib
import sys
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

import typer

from mtmh.errors import UserError
from mtmh_cli.application import app

PASS_ON: dict[str, Any] = {
    "add_help_option": False,
    "context_settings": {
        "allow_extra_args": True,
        "allow_interspersed_args": False,
        "ignore_unknown_options": True,
    },
}


@app.command(**PASS_ON)
def bench(context: typer.Context) -> None:
    """Measure this machine: `bench --help` lists what, `bench NAME --help` the options of one."""
    _listing()(context.args, prog_name=context.command_path)


@app.command(**PASS_ON)
def study(context: typer.Context) -> None:
    """Print the leaderboard of a data set: baselines and the project's own models, tuned alike."""
    _listing()(["study", *context.args], prog_name=context.command_path.removesuffix(" study"))


def _listing() -> typer.Typer:
    """The application of all benchmarks. Raises UserError where there is no checkout."""
    from mtmh.version_hash import ROOT

    if not (ROOT / "benchmarks").is_dir():
        raise UserError(
            "no benchmarks here: they are part of the checkout, not of the installed package."
        )
    # Listing them imports no benchmark: some need torch, a browser or Triton.
    listing = _application(
        help="Measure this machine; the result goes to benchmarks/results.", no_args_is_help=True
    )
    sys.path.insert(0, str(ROOT))  # where a checkout has them
    # An entry point, so that the command line does not depend on the checkout.
    for entry in entry_points(group="mtmh.benchmarks"):
        benchmarks: dict[str, tuple[str, str]] = entry.load()
        for name, (function, measures) in benchmarks.items():
            listing.command(name, help=measures, **PASS_ON)(_imported(function))
    return listing


def _imported(function: str) -> Callable[[typer.Context], None]:
    """The command at `module:function`; its module is imported when it is called."""

    def run(context: typer.Context) -> None:
        module, _, name = function.partition(":")
        command = _application()
        command.command()(getattr(importlib.import_module(module), name))
        command(context.args, prog_name=context.command_path)

    return run


def _application(**settings: Any) -> typer.Typer:
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, **settings)
