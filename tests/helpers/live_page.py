"""The page in a browser, as tests use it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from benchmarks.page import drawn, resize
from helpers.live_router import Router

NUMBER = "8"  # of the version shown here: that of a run, which knows some of its users
PATIENT = ("triton.manages_models=false", "limits.deadline_ms=20000", "features.timeout_ms=10000")
LISTS = ("engagement", "relevance", "merged")
SECONDS = 60


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
        """What a person reads of a list: of each row its item, its rank, its title, its mark, its
        score, its tags.
        """
        return list(self.script(
            "return [...document.querySelectorAll(`.list.${arguments[0]} "
            "li[data-item]`)].map((li) => ({"
            "item: li.dataset.item, rank: li.querySelector('.rank').textContent, "
            "title: li.querySelector('.title').textContent, mark: "
            "li.querySelector('.mark').textContent, "
            "score: li.querySelector('.score').textContent, "
            "tags: [...li.querySelectorAll('.topics > *')].map((tag) => tag.textContent).join(' | "
            "')}))",
            name,
        ))  # fmt: skip

    def items(self, name: str) -> list[str]:
        return [row["item"] for row in self.rows(name)]

    def at_rest(self) -> bool:
        """Nothing is asked, and nothing waits to be."""
        return bool(self.script("return asking === null && timer === 0"))

    def console(self) -> list[Any]:
        return [
            line
            for line in self.driver.get_log("browser")
            if line["level"] in ("SEVERE", "WARNING")
        ]
