"""The report: its numbers are those of the comparison, verdict first, nothing from elsewhere,
readable by everyone.
"""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from helpers.contrasts import CONTRASTS
from helpers.watched_users import FIRST, history, item_counts, items, user_days

from benchmarks.page import browser, resize
from monitoring.ab_page import page as ab_page
from monitoring.ab_page import wording
from mtmh.experiment.comparison import ArmComparison, ComparisonTables, compare
from mtmh.experiment.findings import LogFinding
from mtmh.experiment.folder import Experiment, ExperimentFolder
from mtmh.experiment.metrics import METRICS

FINDINGS = (
    LogFinding(
        "rejected",
        "Malformed records",
        3,
        "records",
        "not counted anywhere",
        "<script>alert(1)</script>",
    ),
    LogFinding(
        "contaminated",
        "Users in two arms",
        2,
        "users",
        "left out of all figures",
        "u00007: new, old",
    ),
    LogFinding(
        "empty_days",
        "Days without exposures",
        0,
        "days",
        "all figures of these days are empty",
        None,
    ),
)
LOGGED = {"records": 10_000, "exposures": 100_000, "engagements": 5_000, "answers": 5_000}
VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """The page as a browser would take it in: text, attributes, and the table's cells."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.cells: dict[tuple[str, str], tuple[str, str]] = {}  # (metric, key) -> (value, text)
        self.text = self.row = self.cell = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in named.items()]
        if tag not in VOID:
            self.open.append(tag)
        self.row = named.get("data-metric", self.row)
        if tag == "td":
            self.cell = named.get("data-key", "")
            if self.cell:
                self.cells[self.row, self.cell] = (named["data-value"], "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if self.cell and self.open[-1] == "td":
            value, text = self.cells[self.row, self.cell]
            self.cells[self.row, self.cell] = (value, text + data)


def place(folder: Path, **wishes: Any) -> ExperimentFolder:
    """One that says what the hand-made tables are about."""
    told = {
        "salt": "s", "control": "old", "treatment": "new", "arms": [{"name": "old"}, {"name": "new"}],
        "first_day": FIRST, "days": 14, "simulated": True, "world": "hand-made", "seed": 0,
    }  # fmt: skip
    return ExperimentFolder(folder, Experiment.model_validate(told | wishes))


def tables(**wishes: Any) -> ComparisonTables:
    """User days as `wishes` say, everything else as it is."""
    return ComparisonTables(
        user_days(**wishes), item_counts(), items(), history(), FINDINGS, LOGGED
    )


def shown(comparison: ArmComparison, out: Path) -> tuple[str, Page]:
    """Write the report; the page as text and as a browser takes it in."""
    ab_page.write(comparison, out, "code-1")
    html = (out / "ab.html").read_text()
    page = Page(html)
    assert page.open == []
    return html, page


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> ArmComparison:
    """A treatment that lengthens dwell by 40 % among 1,200 users."""
    return compare(place(tmp_path_factory.mktemp("place")), tables(more_time=0.4))


@pytest.fixture(scope="module")
def out(comparison: ArmComparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    ab_page.write(comparison, folder, "code-1")
    return folder


def test_ab_json_has_every_metric_and_the_sample_ratio(
    comparison: ArmComparison, out: Path
) -> None:
    ab = json.loads((out / "ab.json").read_text())
    assert set(ab) == {*METRICS, "sample_ratio", "never_served"}
    for effect in comparison.effects:
        entry = ab[effect.metric]
        assert {"control", "treatment", "lift", "lo", "hi", "adjusted_p"} <= set(entry)
        assert entry["lift"] == (effect.lift if effect.lift == effect.lift else None)
    assert ab["time_spent"]["lo"] < ab["time_spent"]["lift"] < ab["time_spent"]["hi"]
    assert ab["time_spent"]["lift"] == pytest.approx(
        ab["time_spent"]["treatment"] / ab["time_spent"]["control"] - 1
    )
    assert (
        ab["relevance_share"]["lift"] is None
    )  # the control has nothing of it: no relative change
    assert set(ab["sample_ratio"]) == {"observed", "expected", "p", "alarm"}
    assert set(ab["never_served"]) == {"users", "of", "p", "alarm"}


def test_the_table_shows_what_ab_json_says(out: Path) -> None:
    ab = json.loads((out / "ab.json").read_text())
    page = Page((out / "ab.html").read_text())
    assert {metric for metric, _ in page.cells} == set(METRICS)
    for (metric, key), (value, text) in page.cells.items():
        if key in ("control", "treatment", "lift", "adjusted_p"):
            assert (float(value) if value not in ("", "nan") else None) == ab[metric][key], (
                metric,
                key,
            )
        assert text
        assert "nan" not in text


def test_the_verdict_stands_first_with_its_rule_fixed_on_the_page(out: Path) -> None:
    page = Page((out / "ab.html").read_text())
    verdict = json.loads((out / "verdict.json").read_text())
    assert verdict["verdict"]["outcome"] == "wins"
    text = re.sub(r"\s+", " ", page.text)
    told = (
        "new wins",
        "The users are simulated.",
        "users compared",
        "The rule, fixed before any result",
    )
    places = [text.index(words, text.index("A/B report")) for words in told]
    assert places == sorted(places)
    headings = re.findall(r"<h2>(.*?)</h2>", (out / "ab.html").read_text())
    assert headings == ["The rule, fixed before any result", "Effects", "Over time", "Sample ratio",
                        "Segments: exploratory", "What was corrected for", "What was wrong in the "
                                                                           "log",
                        "What this comparison cannot tell", "Definitions", "Reproduce"]  # fmt: skip
    for sentence in verdict["rule"]:
        assert sentence in text
    for definition in (metric.definition for metric in METRICS.values()):
        assert definition in text


def test_simulated_users_are_said_to_be_so_and_real_ones_are_not(out: Path, tmp_path: Path) -> None:
    simulated = Page((out / "ab.html").read_text())
    assert "no evidence about people" in simulated.text
    assert "Anything about people." in simulated.text
    _, real = shown(
        compare(place(tmp_path / "place", simulated=False), tables(users=400, days=3)), tmp_path
    )
    assert "simulated" not in real.text.rsplit("Reproduce", 1)[0]
    assert json.loads((tmp_path / "verdict.json").read_text())["simulated"] is False


@pytest.mark.parametrize(
    ("wishes", "outcome", "told"),
    [
        ({"more_time": 0.4}, "wins", "new wins"),
        ({}, "open", "No winner yet"),
        ({"more_time": 0.4, "fewer": 0.35}, "harms", "Engagement rate"),
        ({"more_time": -0.4}, "harms", "Time spent is lower"),
        ({"more_time": 0.4, "users": 180}, "unjudged", "100 are the least"),
    ],
)
def test_planted_effects_get_their_verdict(
    tmp_path: Path, wishes: dict[str, float], outcome: str, told: str
) -> None:
    found = compare(place(tmp_path / "place"), tables(**wishes))
    said = found.verdict
    assert said.outcome == outcome
    assert told in " ".join([said.title, said.lead, *said.reasons])


def test_an_arm_that_vanished_cannot_win(tmp_path: Path) -> None:
    everything = tables(more_time=0.5)
    days = everything.user_days
    gone = FIRST + timedelta(days=9)
    left = days.filter(pc.or_(pc.equal(days["arm"], "old"), pc.less(days["day"], pa.scalar(gone))))
    found = compare(place(tmp_path / "place"), replace(everything, user_days=left))
    assert found.verdict.outcome == "unjudged"
    assert f"the arm new answers nobody from {gone} on" in " ".join(found.verdict.reasons)
    assert "left out" in " ".join(wording.notes(found))


def test_a_broken_log_is_told_and_cannot_be_judged(tmp_path: Path) -> None:
    torn = replace(FINDINGS[0], count=200)
    found = compare(
        place(tmp_path / "place"), replace(tables(more_time=0.4), findings=(torn, *FINDINGS[1:]))
    )
    assert found.verdict.outcome == "unjudged"
    both = replace(FINDINGS[1], count=30)
    found = compare(place(tmp_path / "place"), replace(tables(more_time=0.4), findings=(both,)))
    assert found.verdict.outcome == "unjudged"
    assert "30 of 1,2" in " ".join(found.verdict.reasons)


def test_nothing_of_the_data_becomes_markup(tmp_path: Path) -> None:
    evil = 'x" onload="a()"><script>b()</script>'
    names = {"control": "old", "treatment": evil, "arms": [{"name": "old"}, {"name": evil}]}
    days = user_days(users=400)
    arms = ["old" if arm == "old" else evil for arm in days["arm"].to_pylist()]
    counts = item_counts()
    renamed = replace(
        tables(),
        user_days=days.set_column(0, "arm", [arms]),
        item_counts=counts.set_column(
            0, "arm", [["old" if a == "old" else evil for a in counts["arm"].to_pylist()]]
        ),
    )
    html, page = shown(compare(place(tmp_path / "place", **names), renamed), tmp_path)
    assert "script" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert evil in page.text
    assert "<script>alert(1)</script>" in page.text
    assert "&lt;script&gt;alert(1)" in html


def test_findings_are_listed_and_what_was_not_found_is_named(out: Path) -> None:
    page = Page((out / "ab.html").read_text())
    assert "Malformed records" in page.text
    assert "u00007: new, old" in page.text
    assert "Looked for and not found: days without exposures." in page.text


def test_a_single_day_and_no_day_have_a_page_too(tmp_path: Path) -> None:
    one = compare(place(tmp_path / "place"), tables(days=1))
    _, page = shown(one, tmp_path / "one")
    assert one.verdict.outcome == "open"
    assert "1 day of 14" in page.text
    nothing = replace(
        tables(), user_days=user_days().slice(0, 0), item_counts=item_counts().slice(0, 0)
    )
    none = compare(place(tmp_path / "place"), nothing)
    _, page = shown(none, tmp_path / "none")
    assert none.verdict.outcome == "unjudged"
    assert "nan" not in page.text.lower()


def test_the_page_stands_alone_and_tells_what_its_pictures_show(out: Path) -> None:
    html = (out / "ab.html").read_text()
    page = Page(html)
    assert re.findall(r"(?:https?:)?//\w[\w.]*", html) == []
    assert not {"script", "link", "iframe", "object", "embed", "img"} & set(page.tags)
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    pointed = [value for _, name, value in page.attributes if name in ("href", "xlink:href")]
    assert all(value.startswith("#") and value[1:] in ids for value in pointed)
    labels = [
        value for tag, name, value in page.attributes if tag == "svg" and name == "aria-label"
    ]
    assert len(labels) == page.tags.count("svg") >= 10
    assert "Time spent" in " ".join(labels)
    assert all(len(label) > 20 for label in labels)
    headings = [tag for tag in page.tags if re.fullmatch(r"h\d", tag)]
    assert headings[0] == "h1"
    assert all(int(b[1]) <= int(a[1]) + 1 for a, b in pairwise(headings))


def test_the_same_comparison_gives_the_same_files(
    comparison: ArmComparison, out: Path, tmp_path: Path
) -> None:
    ab_page.write(comparison, tmp_path, "code-1")
    for name in ("ab.html", "ab.json", "verdict.json"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()


has_browser = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="chromium or its driver is missing: apt-get install chromium chromium-driver",
)
Open = Callable[[int], Any]


@pytest.fixture(scope="module")
def open_page(out: Path) -> Iterator[Open]:
    with browser() as driver:

        def open_(width: int) -> Any:
            resize(driver, width, 800)
            driver.get((out / "ab.html").as_uri())
            return driver

        yield open_


@has_browser
@pytest.mark.parametrize("width", [320, 390, 1240])
def test_a_real_browser_shows_it_whole_and_asks_nobody(open_page: Open, width: int) -> None:
    driver = open_page(width)
    assert driver.execute_script("return document.documentElement.scrollWidth") == width
    assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert [
        line for line in driver.get_log("browser") if line["level"] in ("SEVERE", "WARNING")
    ] == []
    drawn = driver.execute_script(
        "return [...document.querySelectorAll('figure svg')].filter((one) => one.checkVisibility())"
        ".map((one) => one.getBoundingClientRect()).map((r) => [r.width, r.height])"
    )
    assert len(drawn) >= 8
    assert all(side > 100 for size in drawn for side in size)
    first = driver.execute_script("return document.querySelector('h1').getBoundingClientRect().top")
    assert 0 <= first < 200
    contrasts = driver.execute_script(CONTRASTS)
    assert len(contrasts) > 100
    assert [found for found in contrasts if found[2] < 4.5] == []


@has_browser
def test_it_can_be_read_by_keyboard(open_page: Open) -> None:
    from selenium.webdriver.common.keys import Keys

    driver = open_page(390)
    wanted = driver.execute_script(
        "let n = 0; return [...document.querySelectorAll('a, summary, [tabindex]')].filter((one) "
        "=> "
        "one.checkVisibility()).map((one) => one.dataset.place = n++)"
    )
    reached = []
    for _ in range(len(wanted)):
        driver.switch_to.active_element.send_keys(Keys.TAB)
        reached.append(
            int(driver.execute_script("return document.activeElement.dataset.place ?? -1"))
        )
        assert (
            driver.execute_script("return getComputedStyle(document.activeElement).outlineWidth")
            == "3px"
        )
    assert reached == wanted
    driver.execute_script("document.querySelector('summary').focus()")
    driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert driver.execute_script("return document.querySelector('details').open")
    assert driver.execute_script("return document.documentElement.scrollWidth") == 390
