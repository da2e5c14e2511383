"""The command line. It sits on top of all rooms, imports them when a command needs them, and nothing imports it."""

from mtmh.cli import pipeline, ask, data, serving, refresh, simulation, ab  # isort: skip  # as --help lists them
from mtmh.cli.application import app, main

__all__ = ["ab", "app", "ask", "data", "main", "pipeline", "refresh", "serving", "simulation"]
