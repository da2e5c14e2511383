"""Watching what is served: Evidently with its dashboard, the A/B report (ab/), Prometheus rules,
Grafana dashboards.

The figures themselves are mtmh.experiment's; Evidently keeps their history, tests them against
bounds, measures the drift of single columns and draws the pages. Its own recommender metrics are
not used: their definitions are not the paper's.
"""
