"""Prometheus' rules: promtool's tests of them pass, and would not if any alert never fired, or
always did.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

MONITORING = Path(__file__).parents[3] / "monitoring"
PROMETHEUS = MONITORING / "prometheus"
RULES = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())
ALERTS = [rule for group in RULES["groups"] for rule in group["rules"] if "alert" in rule]
BY_NAME = pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: str(alert["alert"]))


@pytest.fixture(scope="module", autouse=True)
def _promtool() -> None:
    if shutil.which("promtool") is None:
        message = "no promtool on the PATH: install it with 'apt-get install -y prometheus'"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True)


def test_rules_and_configuration_are_valid_and_the_rules_tests_pass() -> None:
    for told in (
        promtool("check", "rules", PROMETHEUS / "rules.yaml"),
        promtool("check", "config", PROMETHEUS / "prometheus.yaml"),
        promtool("test", "rules", PROMETHEUS / "rules.test.yaml"),
    ):
        assert told.returncode == 0, told.stdout + told.stderr
        assert "SUCCESS" in told.stdout


@pytest.mark.parametrize(
    ("instead", "what"), [("vector(0) > 1", "never"), ("vector(1)", "always")], ids=["no", "yes"]
)
def test_the_rules_tests_see_every_alert_that_never_fires_or_always(
    tmp_path: Path, instead: str, what: str
) -> None:
    shutil.copytree(PROMETHEUS, tmp_path, dirs_exist_ok=True)
    rules = yaml.safe_load((PROMETHEUS / "rules.yaml").read_text())
    for rule in rules["groups"][0]["rules"]:
        if "alert" in rule:
            rule["expr"] = instead
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(rules))
    told = promtool("test", "rules", tmp_path / "rules.test.yaml")
    assert told.returncode == 1
    seen = set(re.findall(r"alertname: (\w+), time", told.stdout + told.stderr))
    assert {alert["alert"] for alert in ALERTS} - seen == set(), (
        f"{what} fires, and no test says so"
    )


@BY_NAME
def test_an_alert_says_how_bad_how_long_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["alert"].startswith("Mtmh")
    assert alert["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert re.fullmatch(r"\d+[mh]", alert["for"])
    assert re.search(r"\.( *{{ end }})?$", alert["annotations"]["summary"])
    assert alert["annotations"]["runbook"] == f"monitoring/README.md#{alert['alert'].lower()}"


def test_the_runbook_has_every_alert_and_no_other() -> None:
    headings = re.findall(r"^#+ (Mtmh\w+)$", (MONITORING / "README.md").read_text(), re.MULTILINE)
    assert headings == [alert["alert"] for alert in ALERTS]
