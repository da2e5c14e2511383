"""Alerts and recording rules, and the check that their queries name what is exported."""
