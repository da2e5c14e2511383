"""`python -m monitoring.prometheus` writes rules.yaml as a PrometheusRule for the Prometheus
operator: k8s/overlays/prometheus-operator/rules.yaml.
"""

from pathlib import Path

import yaml

RULES = Path(__file__).with_name("rules.yaml")
OPERATOR = Path(__file__).parents[2] / "k8s" / "overlays" / "prometheus-operator" / "rules.yaml"


def prometheus_rule() -> str:
    """The object, as YAML: the groups of rules.yaml, which stays the one place to write them."""
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "mtmh", "labels": {"app.kubernetes.io/part-of": "mtmh"}},
        "spec": yaml.safe_load(RULES.read_text()),
    }
    head = "# Written by `python -m monitoring.prometheus` from monitoring/prometheus/rules.yaml.\n"
    return head + yaml.safe_dump(rule, sort_keys=False, width=120)


if __name__ == "__main__":
    OPERATOR.write_text(prometheus_rule())
    print(OPERATOR)
