"""The dashboard, in a real browser over Evidently's own server: every tab, its panels and its
lines.
"""

import json
import shutil
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from helpers.small_place import ARMS

from benchmarks.monitor import open_tab, panels_of, served
from benchmarks.page import browser, resize
from monitoring.evidently.dashboard import TABS
from monitoring.evidently.monitor import WORKSPACE, Monitored
from monitoring.evidently.server import slug

pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="chromium or its driver is missing: apt-get install chromium chromium-driver",
)
ARM_NAMES = [arm["name"] for arm in ARMS]
EXPECTED = {  # some panel of the tab, and its lines
    "A/B": ("Time spent", ARM_NAMES),
    "Freshness": ("Freshness: Coverage of new items", ARM_NAMES),
    "Diversity": ("Topic entropy", ARM_NAMES),
    "Heads": (
        "Heads: Engagement rate",
        ["engagement-only, engagement", "mtmh, engagement", "mtmh, relevance"],
    ),
    "Drift": (
        "Drift of embeddings: engagement head",
        ["engaged", *(f"shown, {name}" for name in ARM_NAMES)],
    ),
    "Data quality": ("Volume of the log: Answers", ["log"]),
}
PANEL = """
const card = [...document.querySelectorAll('.MuiGrid-container h5')]
  .find((title) => title.textContent === arguments[0]).closest('.MuiCard-root, .MuiPaper-root');
return {text: card.innerText, points: card.querySelectorAll('svg circle').length,
        lines: [...card.querySelectorAll('svg path')].filter((path) => path.getAttribute('fill') === 'none').length};
"""
LOADED = "return performance.getEntriesByType('resource').map((one) => one.name)"
LINKS = (
    "return [...document.querySelectorAll('.mtmh-tabs a')].map((a) => [a.textContent, "
    "a.getAttribute('aria-current')])"
)


@pytest.fixture(scope="module")
def base(out: Path, monitored: Monitored) -> Iterator[str]:
    with served(out / WORKSPACE) as address:
        yield address


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as found:
        resize(found, 1280, 1400)
        yield found


@pytest.mark.parametrize("tab", TABS)
def test_a_tab_shows_its_panels_with_a_line_each(
    driver: Any, base: str, monitored: Monitored, tab: str
) -> None:
    panels = panels_of(base, monitored.project, tab)
    address = f"{base}/projects/{monitored.project}?tab={slug(tab)}"
    titles = open_tab(driver, address, len(panels), sum(bool(lines) for lines in panels.values()))
    assert titles == list(panels)
    wanted, lines = EXPECTED[tab]
    drawn = driver.execute_script(PANEL, wanted)
    for line in lines:
        assert line in drawn["text"]
    assert drawn["lines"] == len(lines) == panels[wanted]
    assert drawn["points"] == len(lines) * len(monitored.days)
    assert driver.execute_script(LINKS) == [[one, "page" if one == tab else None] for one in TABS]
    assert all(
        name.startswith(base) for name in driver.execute_script(LOADED)
    )  # nobody else is asked
    assert [
        line for line in driver.get_log("browser") if line["level"] in ("SEVERE", "WARNING")
    ] == []


def test_the_first_tab_says_that_users_are_simulated(
    driver: Any, base: str, monitored: Monitored
) -> None:
    panels = panels_of(base, monitored.project, "A/B")
    open_tab(driver, f"{base}/projects/{monitored.project}?tab=a-b", len(panels), len(panels) - 1)
    shown = driver.execute_script("return document.body.innerText")
    assert "Users are simulated: the world is 'small', the seed 0." in shown
    assert "engagement-only (alpha 100), mtmh (alpha 50)" in shown


def test_tabs_are_links_that_lead_to_one_another(
    driver: Any, base: str, monitored: Monitored
) -> None:
    panels = panels_of(base, monitored.project, "Diversity")
    open_tab(driver, f"{base}/projects/{monitored.project}?tab=diversity", len(panels), len(panels))
    link = driver.find_element("link text", "Drift")
    link.click()
    assert driver.current_url.endswith("?tab=drift")
    driver.back()
    assert driver.current_url.endswith("?tab=diversity")


def test_a_report_of_an_arm_shows_figures_tests_and_distributions(
    driver: Any, base: str, monitored: Monitored
) -> None:
    from selenium.webdriver.support.wait import WebDriverWait

    with urllib.request.urlopen(f"{base}/api/projects/{monitored.project}/reports") as answer:
        reports = {
            report["metadata"]["day"] + " " + report["metadata"]["of"]: report
            for report in json.load(answer)
        }
    assert len(reports) == len(monitored.days) * (len(ARMS) + 1)
    report = reports[f"{monitored.days[-1]} mtmh"]
    driver.get(f"{base}/projects/{monitored.project}/reports/{report['id']}")
    wanted = ("Online metrics: mtmh", "Drift in column 'score_relevance'", "Heads: mtmh, relevance")

    def text(driver: Any) -> str:
        return str(driver.execute_script("return document.body.innerText"))

    WebDriverWait(driver, 60).until(lambda driver: all(one in text(driver) for one in wanted))
    assert "Seconds of dwell per user and day" in text(driver)


def test_without_a_tab_evidently_shows_everything(base: str, monitored: Monitored) -> None:
    with urllib.request.urlopen(f"{base}/api/v2/dashboards/{monitored.project}") as answer:
        everything = [panel["title"] for panel in json.load(answer)["panels"]]
    each = [title for tab in TABS for title in panels_of(base, monitored.project, tab)]
    assert everything == each
    assert list(panels_of(base, monitored.project, "no such tab")) == list(
        dict.fromkeys(everything)
    )
