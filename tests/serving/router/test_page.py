"""The page in a real browser, over the real router and the real Triton."""

import shutil
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import pyarrow as pa
import pytest
from live_router import Place, Router, Run, remove
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait
from tritonclient.grpc import InferenceServerClient

from benchmarks.page import browser, drawn, resize
from mtmh.data.files import write_parquet
from serving.router.pages import PAGE
from serving.triton.export import write_package
from serving.triton.store import install, promote
from serving.triton.supervisor import load

pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="chromium or its driver is missing: apt-get install chromium chromium-driver",
)
NUMBER = "8"  # of the version shown here: that of a run, which knows some of its users
PATIENT = ("triton.manages_models=false", "limits.deadline_ms=20000", "features.timeout_ms=10000")
LISTS = ("engagement", "relevance", "merged")
SECONDS = 60
# Every text's contrast with what lies under it, as WCAG 2.1 computes it.
CONTRASTS = """
const parse = (color) => color.match(/[\\d.]+/g).map(Number);
const light = (color) => {
  const [r, g, b] = parse(color).map((v) => (v /= 255, v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const under = (node) => {
  for (; node; node = node.parentElement) {
    const color = getComputedStyle(node).backgroundColor;
    if (parse(color)[3] !== 0) return color;
  }
  return "rgb(255, 255, 255)";
};
const found = [];
for (const node of document.querySelectorAll("body *")) {
  const hasText = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  if (!hasText || !node.checkVisibility()) continue;
  const [a, b] = [light(getComputedStyle(node).color), light(under(node))].sort((x, y) => y - x);
  found.push([node.className || node.tagName, node.textContent.slice(0, 30), (a + 0.05) / (b + 0.05)]);
}
return found;
"""


@pytest.fixture(autouse=True)
def _champion_one() -> None:
    """Not here: the version shown stays champion."""


@pytest.fixture(scope="module")
def shown(place: Place) -> Iterator[str]:
    """The version that the page shows, installed, champion, and loaded; this module's routers unload nothing."""
    run = place.root / "run"
    run.mkdir()
    (run / "retriever").symlink_to(place.retrievers["1"])
    write_parquet(pa.table({"user_id": ["u00", "u00", "u01"]}), run / "candidates.parquet")
    install(write_package(run, NUMBER, place.root / "packages" / NUMBER, place.features), place.store)
    promote(place.store, NUMBER)
    load(place.ports, place.store, NUMBER)
    yield NUMBER
    promote(place.store, "1")
    remove(place.store, NUMBER)


@pytest.fixture(scope="module")
def router(run_router: Run, shown: str) -> Iterator[Router]:
    with run_router(*PATIENT) as running:
        yield running


@dataclass(frozen=True)
class Page:
    """A browser with the page; a new one opens it afresh."""

    driver: Any
    router: Router

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.router.port}"

    def open(self, query: str = "", width: int = 1280, height: int = 900) -> None:
        resize(self.driver, width, height)
        self.driver.get(f"{self.url}/?{query}")
        drawn(self.driver)

    def script(self, text: str, *arguments: Any) -> Any:
        return self.driver.execute_script(text, *arguments)

    def emulate(self, feature: str, value: str) -> None:
        features = [{"name": feature, "value": value}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def get(self, css: str) -> WebElement:
        found: WebElement = self.driver.find_element(By.CSS_SELECTOR, css)
        return found

    def text(self, css: str) -> str:
        return str(self.script("return document.querySelector(arguments[0]).textContent", css))

    def until(self, condition: Callable[[], Any]) -> Any:
        return WebDriverWait(self.driver, SECONDS, poll_frequency=0.05).until(lambda _: condition())

    def press(self, *keys: str) -> None:
        self.driver.switch_to.active_element.send_keys(*keys)

    def focus(self, css: str) -> None:
        self.script("document.querySelector(arguments[0]).focus()", css)

    def rows(self, name: str) -> list[dict[str, str]]:
        """What a person reads of a list: of each row its item, its rank, its title, its mark, its score, its tags."""
        return list(self.script(
            "return [...document.querySelectorAll(`.list.${arguments[0]} li[data-item]`)].map((li) => ({"
            "item: li.dataset.item, rank: li.querySelector('.rank').textContent, "
            "title: li.querySelector('.title').textContent, mark: li.querySelector('.mark').textContent, "
            "score: li.querySelector('.score').textContent, "
            "tags: [...li.querySelectorAll('.topics > *')].map((tag) => tag.textContent).join(' | ')}))",
            name,
        ))  # fmt: skip

    def items(self, name: str) -> list[str]:
        return [row["item"] for row in self.rows(name)]

    def at_rest(self) -> bool:
        """Nothing is asked, and nothing waits to be."""
        return bool(self.script("return asking === null && timer === 0"))

    def console(self) -> list[Any]:
        return [line for line in self.driver.get_log("browser") if line["level"] in ("SEVERE", "WARNING")]


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    with browser() as driver:
        yield driver


@pytest.fixture
def page(router: Router, driver: Any) -> Iterator[Page]:
    yield Page(driver, router)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    driver.get_log("browser")


def test_an_item_is_searched_and_chosen_by_keyboard(page: Page) -> None:
    page.open("item=i30")
    page.focus("#search")
    page.press("item 1")
    page.until(lambda: len(page.driver.find_elements(By.CSS_SELECTOR, "[role=option]")) > 3)
    box = page.get("#search")
    assert box.get_attribute("aria-expanded") == "true"
    options = page.driver.find_elements(By.CSS_SELECTOR, "[role=option]")
    assert [option.get_attribute("aria-selected") for option in options[:2]] == ["true", "false"]
    page.press(Keys.ARROW_DOWN)
    chosen = page.get("[role=option][aria-selected=true]")
    assert box.get_attribute("aria-activedescendant") == chosen.get_attribute("id") == options[1].get_attribute("id")
    title, note = chosen.text.split("\n")
    page.press(Keys.ENTER)
    page.until(lambda: page.text("#triggers .title") == title)
    assert box.get_attribute("aria-expanded") == "false"
    item = note.split(" · ")[0]
    assert f"item={item}" in page.driver.current_url
    assert item not in page.items("engagement") + page.items("relevance")
    page.driver.back()
    page.until(lambda: page.text("#triggers .title") == "item 30")
    assert page.console() == []


def test_escape_closes_the_list_and_gives_the_title_back(page: Page) -> None:
    page.open("item=i30")
    page.focus("#search")
    page.press("item 2")
    page.until(lambda: page.get("#search").get_attribute("aria-expanded") == "true")
    page.press(Keys.ESCAPE)
    assert page.get("#search").get_attribute("aria-expanded") == "false"
    assert not page.get("#found").is_displayed()
    page.press(Keys.ESCAPE)
    assert page.get("#search").get_attribute("value") == "item 30"


@pytest.mark.parametrize("who", [{"triggers": ["i03"]}, {"user_id": "u00"}])
def test_the_columns_say_what_the_router_answers(page: Page, who: dict[str, Any]) -> None:
    told = page.router.post("/v1/compare", {**who, "k": 10, "alpha": 30})
    page.open(f"{'user=u00' if 'user_id' in who else 'item=i03'}&k=10&alpha=30")
    for name in LISTS:
        rows, expected = page.rows(name), told["lists"][name]
        assert len(rows) == 10
        assert [row["item"] for row in rows] == [row["item_id"] for row in expected]
        assert [row["rank"] for row in rows] == [str(rank) for rank in range(1, 11)]
        assert [row["mark"] for row in rows] == [(row["topic_match"] or "none").replace("l", "L") for row in expected]
        for row, told_row in zip(rows, expected, strict=True):
            assert float(row["score"]) == pytest.approx(told_row["score"], rel=5e-3)
            assert row["title"] == told["items"][told_row["item_id"]]["title"]
            if name == "merged":
                assert f"{told_row['head']} {told_row['head_rank']}" in row["tags"]
            if len(told["triggers"]) > 1:
                assert f"via {told['items'][told_row['trigger_id']]['title']}" in row["tags"]
        matched = sum(row["topic_match"] == "l2" for row in expected)
        assert f"{10 * matched} % share an L2 topic" in page.text(f".list.{name} .share")
    assert {row["topic_match"] for name in LISTS for row in told["lists"][name]} == {"l1", "l2"}
    assert page.text("#version") == NUMBER
    assert page.text("#arm") == told["arm"]
    assert page.text("#state") == "both heads answer"
    stages = [row.text for row in page.driver.find_elements(By.CSS_SELECTOR, "#latency > div")]
    assert [stage.split()[0] for stage in stages] == ["history", "engagement", "relevance", "merge", "total"]


def test_the_slider_leads_from_one_head_to_the_other(page: Page) -> None:
    page.open("item=i05&k=10")
    served = page.items("merged")
    assert page.text("#alpha-value") == "50 %"
    assert not page.get("#served").is_enabled()
    page.focus("#alpha")
    for key, head, alpha in ((Keys.HOME, "relevance", 0), (Keys.END, "engagement", 100)):
        page.press(key)
        page.until(lambda head=head: page.items("merged") == page.items(head))
        assert page.text("#alpha-value") == f"{alpha} %"
        page.until(lambda alpha=alpha: page.driver.current_url.endswith(f"alpha={alpha}"))
    assert page.items("relevance") != page.items("engagement")
    page.press(*[Keys.ARROW_LEFT] * 30)
    page.until(lambda: page.text("#alpha-value") == "70 %" and page.at_rest())
    told = page.router.post("/v1/compare", {"triggers": ["i05"], "k": 10, "alpha": 70})
    assert page.items("merged") == [row["item_id"] for row in told["lists"]["merged"]]
    assert "alpha 70" in page.text("#said")
    page.get("#served").click()
    page.until(lambda: page.text("#alpha-value") == "50 %" and page.at_rest())
    assert page.items("merged") == served
    page.until(lambda: "alpha" not in page.driver.current_url)
    assert page.console() == []


def test_an_answer_that_comes_too_late_is_dropped(page: Page) -> None:
    page.open("item=i30")
    page.script(  # answers about i06 take a second, and come though nobody waits for them any more
        "const real = window.fetch; window.late = 0;"
        "window.fetch = async (path, options) => { if (!options.body?.includes('i06')) return real(path, options);"
        "  const found = await real(path, { ...options, signal: undefined });"
        "  await new Promise((done) => setTimeout(done, 1000)); window.late += 1; return found; }"
    )
    page.script("choose('item', 'i06'); compare()")
    page.script("choose('item', 'i07'); compare()")
    page.until(lambda: page.text("#triggers .title") == "item 7")
    page.until(lambda: page.script("return window.late") == 1)
    page.script("return new Promise((done) => setTimeout(done, 50))")
    assert page.text("#triggers .title") == "item 7"
    assert "item=i07" in page.driver.current_url


def test_a_user_is_offered_and_starts_from_what_was_engaged_with(page: Page) -> None:
    page.open()
    assert "item=" in page.driver.current_url  # a first item, by chance
    page.get("[name=kind][value=user]").send_keys(Keys.SPACE)
    page.focus("#search")
    page.press(Keys.ARROW_DOWN)
    page.until(lambda: page.get("#found").text.startswith("u00"))
    page.press(Keys.ENTER)
    page.until(lambda: page.text("#asked-name").startswith("User u00"))
    told = page.router.post("/v1/compare", {"user_id": "u00"})
    links = page.driver.find_elements(By.CSS_SELECTOR, "#triggers a")
    assert [link.get_attribute("data-id") for link in links] == told["triggers"]
    page.get("#random").click()
    page.until(lambda: page.text("#asked-name").startswith("User u01"))
    links = page.driver.find_elements(By.CSS_SELECTOR, ".list.merged a")
    item = links[0].get_attribute("data-id")
    links[0].send_keys(Keys.ENTER)  # from a candidate to its own neighbours
    page.until(lambda: f"item={item}" in page.driver.current_url and page.text("#asked-name") == "Trigger")


def test_unknown_items_and_users_are_said_to_be_so(page: Page) -> None:
    page.open("item=%3Cimg%20src%3Dx%3E")
    assert page.text("#triggers .title") == "<img src=x>"
    assert "has not seen this item" in page.text("#triggers")
    assert "no trigger that this version knows" in page.text(".list.merged ol")
    page.open("user=nobody")
    assert "Nothing is known of this user" in page.text("#triggers")
    assert page.driver.find_elements(By.CSS_SELECTOR, "main img") == []
    assert page.console() == []


def test_what_both_heads_found_is_seen_in_all_columns(page: Page) -> None:
    page.open("item=i05&k=20")
    both = set(page.items("engagement")) & set(page.items("relevance"))
    assert both
    for name in LISTS:
        assert {row["item"] for row in page.rows(name) if "both" in row["tags"]} == both & set(page.items(name))
    item = next(item for item in page.items("merged") if item in both)
    page.focus(f".list.merged li[data-item={item}] a")
    marked = "return [...document.querySelectorAll('.list li.same')].map((li) => li.dataset.item)"
    assert page.script(marked) == [item] * 3
    page.focus("#alpha")
    assert page.script(marked) == []


def test_trouble_is_told_and_passes_by_itself(page: Page, place: Place) -> None:
    page.open("item=i08&k=10&alpha=50")
    whole = page.items("merged")
    ensembles = [f"retrieve_{head}_{NUMBER}" for head in ("relevance", "engagement")]
    with InferenceServerClient(f"127.0.0.1:{place.ports.grpc}") as triton:
        try:
            triton.unload_model(ensembles[0])
            page.focus("#alpha")
            page.press(Keys.ARROW_RIGHT)
            page.until(lambda: page.text("#state") == "degraded: without the relevance head")
            assert page.items("merged") == page.items("engagement")
            assert len(page.items("merged")) == 10  # filled up
            assert "did not answer" in page.text(".list.relevance ol")
            triton.unload_model(ensembles[1])
            page.press(Keys.ARROW_LEFT)
            page.until(lambda: "(503)" in page.text("#trouble"))
            assert "last good answer" in page.text("#trouble")
            assert len(page.items("merged")) == 10
            assert page.get("#trouble").get_attribute("role") == "alert"
        finally:
            for ensemble in ensembles:
                triton.load_model(ensemble)
    page.until(lambda: page.text("#trouble") == "" and page.text("#state") == "both heads answer")
    assert page.items("merged") == whole


def test_a_version_with_one_head_takes_over(page: Page, place: Place, version: Callable[[str], Path]) -> None:
    page.open("item=i08&k=10")
    install(write_package(version("engagement"), "9", place.root / "packages" / "9"), place.store)
    load(place.ports, place.store, "9")
    try:
        promote(place.store, "9")
        page.until(lambda: page.router.client.get("/readyz").json()["model_version"] == "9")
        page.focus("#alpha")
        page.press(Keys.ARROW_LEFT)
        page.until(lambda: page.text("#version") == "9")
        assert page.text("#state") == "the only head answers"
        assert "This version has no such head" in page.text(".list.relevance ol")
        assert page.items("merged") == page.items("engagement") != []
    finally:
        promote(place.store, NUMBER)
        page.until(lambda: page.router.client.get("/readyz").json()["model_version"] == NUMBER)
        remove(place.store, "9")


def test_a_router_that_went_away_is_waited_for(run_router: Run, shown: str, driver: Any) -> None:
    with run_router(*PATIENT) as router:
        page = Page(driver, router)
        page.open("item=i08")
    page.focus("#alpha")
    page.press(Keys.ARROW_LEFT)
    page.until(lambda: "cannot be reached" in page.text("#trouble"))
    assert len(page.items("merged")) > 5
    page.console()


def test_a_token_is_asked_for_and_kept_in_the_tab(run_router: Run, shown: str, driver: Any, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("open sesame\n")
    with run_router(*PATIENT, f"auth.token_file={tmp_path / 'token'}") as router:
        page = Page(driver, router)
        driver.get(f"{page.url}/?item=i08")
        page.until(lambda: page.get("#token").is_displayed())
        assert page.get("#token").accessible_name == "This router asks for its token"
        page.get("#token").send_keys("wrong", Keys.ENTER)
        page.until(lambda: page.get("#token").get_attribute("value") == "" and page.at_rest())
        assert page.get("#token").is_displayed()
        page.get("#token").send_keys("open sesame", Keys.ENTER)
        drawn(driver)
        assert not page.get("#token").is_displayed()
        assert page.text("#trouble") == ""
        assert "sesame" not in driver.current_url
    page.console()


@pytest.mark.parametrize("width", [320, 360])
@pytest.mark.parametrize("query", ["item=i05&k=20", "user=u00&k=20"])
def test_a_phone_shows_one_list_and_never_scrolls_sideways(page: Page, width: int, query: str) -> None:
    page.open(query, width, 740)
    assert page.script("return document.documentElement.scrollWidth") == width
    assert page.script("return innerWidth") == width

    def shown() -> list[str]:
        return [name for name in LISTS if page.get(f".list.{name}").is_displayed()]

    assert shown() == ["merged"]
    page.focus("[name=column]:checked")
    page.press(Keys.ARROW_LEFT)
    assert shown() == ["relevance"]
    assert page.script("return document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_text_stands_out_in_both_schemes(page: Page, scheme: str, width: int) -> None:
    page.emulate("prefers-color-scheme", scheme)
    page.open("user=u00&k=10&alpha=40", width)
    page.script("highlight(document.querySelector('.list.merged li').dataset.item); trouble('a trouble')")
    page.focus("#search")
    page.press("u")
    page.until(lambda: page.get("#found").is_displayed())
    paper = page.script("return getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 23, 31)"}[scheme]
    contrasts = page.script(CONTRASTS)
    assert len(contrasts) > 40
    assert [found for found in contrasts if found[2] < 4.5] == []


def test_tab_reaches_everything_and_shows_where_it_is(page: Page) -> None:
    page.open("user=u00&k=10&alpha=40")
    wanted = page.script(
        "let n = 0; return [...document.querySelectorAll('a, input, select, button')]"
        ".filter((one) => one.checkVisibility() && !one.disabled && (one.type !== 'radio' || one.checked))"
        ".map((one) => one.dataset.place = n++)"
    )
    page.script("document.activeElement.blur(); scrollTo(0, 0)")
    reached = []
    for _ in range(len(wanted) + 5):
        page.press(Keys.TAB)
        place = page.script("return document.activeElement.dataset.place")
        if place is None:
            continue  # a list that scrolls, or the end
        reached.append(int(place))
        ring = page.script(
            "const one = document.activeElement;"
            "return getComputedStyle(one.type === 'radio' ? one.nextElementSibling : one).outlineWidth"
        )
        assert ring == "3px"
        seen = page.script(
            "const r = document.activeElement.getBoundingClientRect(); return r.top >= 0 && r.bottom <= innerHeight"
        )
        assert seen
    assert list(dict.fromkeys(reached)) == wanted


def test_everything_has_a_name_and_its_role(page: Page) -> None:
    page.open("item=i05")
    for control in page.driver.find_elements(By.CSS_SELECTOR, "input, select, button, a"):
        if control.is_displayed():
            assert control.accessible_name, control.get_attribute("outerHTML")
    assert page.get("#search").aria_role == "combobox"
    assert page.get("#alpha").aria_role == "slider"
    assert page.get("#alpha").get_attribute("aria-valuetext") == "50 percent from the engagement head"
    names = [page.get(f"section.{name}").accessible_name for name in LISTS]
    assert names == ["Engagement head", "Relevance head", "Merged"]
    levels = page.script("return [...document.querySelectorAll('h1, h2, h3')].map((one) => one.tagName)")
    assert levels == ["H1"] + ["H2"] * 5
    ids = page.script("return [...document.querySelectorAll('[id]')].map((one) => one.id)")
    assert len(ids) == len(set(ids))
    assert page.script("return document.documentElement.lang") == "en"
    assert page.get("#lists").get_attribute("aria-busy") == "false"
    pointed = page.script(
        "return ['aria-labelledby', 'aria-controls', 'for'].flatMap((name) => "
        "[...document.querySelectorAll(`[${name}]`)].map((one) => one.getAttribute(name)))"
    )
    assert set(pointed) <= set(ids)


def test_nothing_moves_while_it_loads_nor_where_motion_is_not_wanted(page: Page) -> None:
    page.emulate("prefers-reduced-motion", "reduce")
    page.open("item=i05&alpha=40")
    shift = page.driver.execute_async_script(
        "const done = arguments[0]; new PerformanceObserver((list) => "
        "done(list.getEntries().reduce((sum, entry) => sum + entry.value, 0)))"
        ".observe({ type: 'layout-shift', buffered: true }); setTimeout(() => done(0), 500)"
    )
    assert shift < 0.01
    durations = "return [...document.querySelectorAll('*')].map((one) => getComputedStyle(one).transitionDuration)"
    assert set(page.script(durations)) == {"0s"}


def test_the_page_asks_nobody_but_its_router(page: Page) -> None:
    page.open("item=i05")
    page.focus("#search")
    page.press("item")
    page.until(lambda: page.get("#found").is_displayed())
    asked = page.script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert {path.removeprefix(page.url).split("?")[0] for path in asked} >= {"/page.css", "/page.js", "/v1/compare"}
    assert [address for address in asked if not address.startswith(f"{page.url}/")] == []
    assert page.console() == []
    with urllib.request.urlopen(f"{page.url}/") as response:
        policy, tag = response.headers["content-security-policy"], response.headers["etag"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    again = urllib.request.Request(f"{page.url}/", headers={"if-none-match": tag})
    with pytest.raises(HTTPError, match="304"):
        urllib.request.urlopen(again)
    assert sum(file.stat().st_size for file in PAGE.iterdir()) < 40 * 1024


def test_the_page_is_no_part_of_the_interface_but_its_samples_are(router: Router) -> None:
    paths = router.client.get("/openapi.json").json()["paths"]
    assert not {"/", "/page.js", "/page.css"} & set(paths)
    told = router.client.get("/v1/samples").json()
    assert told["users"] == ["u00", "u01"]
    assert told["k"] == 500
    assert len({item["item_id"] for item in told["items"]}) == 8
