"""Grafana's dashboards, written as JSON by `python -m monitoring.grafana`."""
