"""What the page shows and does, in a real browser, over the real router and the real Triton."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.live_page import LISTS, NUMBER, PATIENT, Page
from helpers.live_router import Router, RouterFolder, Run, remove
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from tritonclient.grpc import InferenceServerClient

from benchmarks.page import drawn
from serving.triton.export import write_package
from serving.triton.management import headers
from serving.triton.store import install, promote
from serving.triton.supervisor import load

pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="chromium or its driver is missing: apt-get install chromium chromium-driver",
)


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
    assert (
        box.get_attribute("aria-activedescendant")
        == chosen.get_attribute("id")
        == options[1].get_attribute("id")
    )
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
        assert [row["mark"] for row in rows] == [
            (row["topic_match"] or "none").replace("l", "L") for row in expected
        ]
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
    assert [stage.split()[0] for stage in stages] == [
        "history",
        "engagement",
        "relevance",
        "merge",
        "total",
    ]


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
        "window.fetch = async (path, options) => { if (!options.body?.includes('i06')) return "
        "real(path, options);"
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
    page.until(
        lambda: f"item={item}" in page.driver.current_url and page.text("#asked-name") == "Trigger"
    )


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
        assert {row["item"] for row in page.rows(name) if "both" in row["tags"]} == both & set(
            page.items(name)
        )
    item = next(item for item in page.items("merged") if item in both)
    page.focus(f".list.merged li[data-item={item}] a")
    marked = "return [...document.querySelectorAll('.list li.same')].map((li) => li.dataset.item)"
    assert page.script(marked) == [item] * 3
    page.focus("#alpha")
    assert page.script(marked) == []


def test_trouble_is_told_and_passes_by_itself(page: Page, place: RouterFolder) -> None:
    page.open("item=i08&k=10&alpha=50")
    whole = page.items("merged")
    ensembles = [f"retrieve_{head}_{NUMBER}" for head in ("relevance", "engagement")]
    secret = headers(place.triton.secret)
    with InferenceServerClient(f"127.0.0.1:{place.ports.grpc}") as triton:
        try:
            triton.unload_model(ensembles[0], headers=secret)
            page.focus("#alpha")
            page.press(Keys.ARROW_RIGHT)
            page.until(lambda: page.text("#state") == "degraded: without the relevance head")
            assert page.items("merged") == page.items("engagement")
            assert len(page.items("merged")) == 10  # filled up
            assert "did not answer" in page.text(".list.relevance ol")
            triton.unload_model(ensembles[1], headers=secret)
            page.press(Keys.ARROW_LEFT)
            page.until(lambda: "(503)" in page.text("#trouble"))
            assert "last good answer" in page.text("#trouble")
            assert len(page.items("merged")) == 10
            assert page.get("#trouble").get_attribute("role") == "alert"
        finally:
            for ensemble in ensembles:
                triton.load_model(ensemble, headers=secret)
    page.until(lambda: page.text("#trouble") == "" and page.text("#state") == "both heads answer")
    assert page.items("merged") == whole


def test_a_version_with_one_head_takes_over(
    page: Page, place: RouterFolder, version: Callable[[str], Path]
) -> None:
    page.open("item=i08&k=10")
    install(write_package(version("engagement"), "9", place.root / "packages" / "9"), place.store)
    load(place.triton, place.store, "9")
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


def test_a_token_is_asked_for_and_kept_in_the_tab(
    run_router: Run, shown: str, driver: Any, tmp_path: Path
) -> None:
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


def test_the_page_is_no_part_of_the_interface_but_its_samples_are(router: Router) -> None:
    paths = router.client.get("/openapi.json").json()["paths"]
    assert not {"/", "/page.js", "/page.css"} & set(paths)
    told = router.client.get("/v1/samples").json()
    assert told["users"] == ["u00", "u01"]
    assert told["k"] == 500
    assert len({item["item_id"] for item in told["items"]}) == 8


def test_a_version_of_more_channels_has_a_list_and_a_quota_each(
    page: Page, place: RouterFolder, version: Callable[[str], Path]
) -> None:
    names = ["engagement", "relevance", "subject"]
    install(
        write_package(version("three heads"), "11", place.root / "packages" / "11"), place.store
    )
    load(place.triton, place.store, "11")
    try:
        promote(place.store, "11")
        page.until(lambda: page.router.client.get("/readyz").json()["model_version"] == "11")
        page.open("item=i08&k=10")
        assert page.text("#state") == "all 3 channels answer"
        titles = "return [...document.querySelectorAll('.list h2')].map((h2) => h2.textContent)"
        assert page.script(titles) == [
            *(f"{name.capitalize()} channel" for name in names),
            "Merged",
        ]
        shown = "return [...document.querySelectorAll('#quotas output')].map((o) => o.textContent)"
        assert page.script(shown) == ["50 %", "25 %", "25 %"]
        assert not page.get("#alpha").is_displayed()
        # All of one channel: its list is the merged one; the address keeps the quotas.
        page.focus("#quotas input[name=subject]")
        page.press(Keys.END)
        page.until(lambda: page.script(shown) == ["0 %", "0 %", "100 %"])
        subject = "return [...document.querySelectorAll('.list[data-name=subject] li')].map((li) => li.dataset.item)"
        assert page.items("merged") == page.script(subject) != []
        page.until(lambda: "subject%3A100" in page.driver.current_url)
        page.get("#served").click()
        page.until(lambda: page.script(shown) == ["50 %", "25 %", "25 %"])
        assert page.console() == []
    finally:
        promote(place.store, NUMBER)
        page.until(lambda: page.router.client.get("/readyz").json()["model_version"] == NUMBER)
        remove(place.store, "11")
    page.open("item=i08&k=10")
    assert page.text("#state") == "both heads answer"
    assert page.get("#alpha").is_displayed()
    assert page.items("relevance")
