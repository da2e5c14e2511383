"""The command line. It sits on top of all rooms, imports them when a command needs them, and nothing imports it."""

from mtmh.cli import pipeline, ask, data, serving, refresh, simulation  # isort: skip  # the order in which --help lists them
from mtmh.cli.application import app, main

__all__ = ["app", "ask", "data", "main", "pipeline", "refresh", "serving", "simulation"]
