"""The router's page in a real browser: time until its first answer is drawn, and two pictures.

Looks at the router of `--router` (where `make serve` has it). Told is the median of 11 openings of
the page by the browser's own clock, from the navigation to the first answer drawn; its baseline is
the router's own time for the last of these answers.
"""

import shutil
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from benchmarks.result import FOLDER, write
from mtmh.errors import UserError

OPENINGS, SECONDS = 11, 20  # an odd number, for the median; until an answer must be drawn
SIZES = {"page_desktop": (1280, 1000), "page_phone": (360, 1000)}
QUIET = (
    "sync",
    "gpu",
    "quic",
    "background-networking",
    "component-update",
    "default-apps",
    "extensions",
)


@contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium, driven by Selenium, that asks nobody on its own."""
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    options = ChromeOptions()
    # Chromium has no sandbox for root, as in a container; scroll bars would show in the pictures.
    for flag in (
        "headless=new",
        "no-sandbox",
        "hide-scrollbars",
        "no-first-run",
        *(f"disable-{feature}" for feature in QUIET),
    ):
        options.add_argument(f"--{flag}")
    # What the page writes to its console can be read: tests look for errors there.
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


def resize(driver: Any, width: int, height: int) -> None:
    """Give the page this many CSS pixels; a window could not be as narrow as a phone."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def drawn(driver: Any) -> str:
    """Wait for an answer; the request_id of the one that the page shows."""
    from selenium.webdriver.support.wait import WebDriverWait

    def drawn_request(driver: Any) -> Any:
        return driver.execute_script("return document.body && document.body.dataset.drawn")

    return str(WebDriverWait(driver, SECONDS, poll_frequency=0.05).until(drawn_request))


def main(
    router: Annotated[str, typer.Option(help="Its address.")] = "http://127.0.0.1:8080",
    query: Annotated[
        str,
        typer.Option(
            help="What to ask, as item=i0000000&k=10.", show_default="what the page begins with"
        ),
    ] = "",
) -> None:
    """Time to the first answer drawn, over 11 openings of the router's page, and two pictures of
    it."""
    url = f"{router.rstrip('/')}/"
    with browser() as driver:
        _check(driver, url)
        times = []
        # From the opening to the first answer drawn, by the page's own clock.
        for _ in range(OPENINGS):
            driver.get(f"{url}?{query}")
            drawn(driver)
            times.append(
                driver.execute_script(
                    "return performance.getEntriesByName('first answer')[0].startTime"
                )
            )
        router_ms = driver.execute_script("return answer.timings_ms.total")
        for name, size in SIZES.items():
            # What moves is at its end in a picture.
            picture = FOLDER / f"{name}.png"
            resize(driver, *size)
            driver.get(f"{url}?{query}")
            drawn(driver)
            driver.execute_script("for (const one of document.getAnimations()) one.finish()")
            driver.save_screenshot(str(picture))
            print(f"{picture}: {size[0]} x {size[1]}")
    details = {
        "least": round(min(times), 1),
        "most": round(max(times), 1),
        "openings": OPENINGS,
        "page": f"/?{query}",
    }
    write("page", statistics.median(times), "ms to the first answer drawn", router_ms, details)


def _check(driver: Any, url: str) -> None:
    from selenium.common.exceptions import WebDriverException

    try:
        driver.get(url)
    except WebDriverException as error:
        raise UserError(
            f"no router at {url} ({error.msg}): start one with `make serve`,"
            " or name another with --router."
        ) from None
