"""Watching what is served: Evidently (this folder), the A/B report, Prometheus rules and Grafana dashboards.

Evidently keeps the history of a day's figures, tests them against bounds, measures the drift of single columns and
draws the pages; the figures themselves are mtmh.experiment's. Its own recommender metrics are not used: their
definitions are not the paper's. Its telemetry is off: this package says so before Evidently can look.
"""

import os

os.environ["DO_NOT_TRACK"] = "true"
