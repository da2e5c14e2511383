"""The command line. It sits on top of all rooms, imports them when a command needs them, and
nothing imports it."""

from mtmh_cli.application import app, main  # isort: skip

# --help lists the commands in the order of these imports.
from mtmh_cli import pipeline, bench, ask, data, refresh, serving, champion, store  # isort: skip
from mtmh_cli import simulation, monitoring, experiment  # isort: skip

__all__ = [
    "app",
    "ask",
    "bench",
    "champion",
    "data",
    "experiment",
    "main",
    "monitoring",
    "pipeline",
    "refresh",
    "serving",
    "simulation",
    "store",
]
