"""The page on a phone, by keyboard, for eyes that see little contrast or no motion, and without a
network.
"""

import shutil
import urllib.request
from urllib.error import HTTPError

import pytest
from helpers.contrasts import CONTRASTS
from helpers.live_page import LISTS, Page
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from serving.router.pages import PAGE

pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="chromium or its driver is missing: apt-get install chromium chromium-driver",
)


@pytest.mark.parametrize("width", [320, 360])
@pytest.mark.parametrize("query", ["item=i05&k=20", "user=u00&k=20"])
def test_a_phone_shows_one_list_and_never_scrolls_sideways(
    page: Page, width: int, query: str
) -> None:
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
    page.script(
        "highlight(document.querySelector('.list.merged li').dataset.item); trouble('a trouble')"
    )
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
        ".filter((one) => one.checkVisibility() && !one.disabled && (one.type !== 'radio' || "
        "one.checked))"
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
            "return getComputedStyle(one.type === 'radio' ? one.nextElementSibling : "
            "one).outlineWidth"
        )
        assert ring == "3px"
        seen = page.script(
            "const r = document.activeElement.getBoundingClientRect(); return r.top >= 0 && "
            "r.bottom <= innerHeight"
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
    assert (
        page.get("#alpha").get_attribute("aria-valuetext") == "50 percent from the engagement head"
    )
    names = [page.get(f"section.{name}").accessible_name for name in LISTS]
    assert names == ["Engagement head", "Relevance head", "Merged"]
    levels = page.script(
        "return [...document.querySelectorAll('h1, h2, h3')].map((one) => one.tagName)"
    )
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
    durations = (
        "return [...document.querySelectorAll('*')].map((one) => "
        "getComputedStyle(one).transitionDuration)"
    )
    assert set(page.script(durations)) == {"0s"}


def test_the_page_asks_nobody_but_its_router(page: Page) -> None:
    page.open("item=i05")
    page.focus("#search")
    page.press("item")
    page.until(lambda: page.get("#found").is_displayed())
    asked = page.script("return performance.getEntriesByType('resource').map((one) => one.name)")
    assert {path.removeprefix(page.url).split("?")[0] for path in asked} >= {
        "/page.css",
        "/page.js",
        "/v1/compare",
    }
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
