"""Watching what is served: Evidently, the A/B report, Prometheus rules and Grafana dashboards."""
