"""The page: its numbers are those of metrics.json, nothing comes from elsewhere, nothing of the
data becomes markup.
"""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.small_run import ITEMS, TABLE, candidate_table, item_table, make_search, write_run
from PIL import Image

from mtmh.report import examples, plots, report

HALF = {"engagement": 50.0, "relevance": 50.0}
VOID = {"meta", "br", "img", "link", "input", "hr"}
SHAPES = {"path", "use", "rect", "circle", "line", "g"}  # elements of SVG that may close themselves


class Page(HTMLParser):
    """The page as a browser would take it in: open elements, attributes, and the text under each
    row and section.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.cells: dict[
            tuple[str, str], tuple[str, str]
        ] = {}  # (model, metric) -> (data-value, text)
        self.text = ""
        self.row = self.cell = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        named = {name: value or "" for name, value in attrs}
        self.attributes += [(tag, name, value) for name, value in named.items()]
        if tag not in VOID:
            self.open.append(tag)
        self.row = named.get("data-model", self.row)
        if tag == "td":
            self.cell = named.get("data-metric", "")
            if self.cell:
                self.cells[self.row, self.cell] = (named["data-value"], "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in SHAPES | VOID
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"
        if tag == "td":
            self.cell = ""

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if self.cell:
            value, text = self.cells[self.row, self.cell]
            self.cells[self.row, self.cell] = (value, text + data)


Shown = tuple[Path, str, Page]


def show(root: Path, **wishes: object) -> Shown:
    """Write a run's page; return the run, the page as text and as a browser takes it in."""
    run = write_run(root, **wishes)
    report.write(run, make_search(str(wishes.get("head", ""))))
    html = (run / "report.html").read_text()
    page = Page(html)
    assert page.open == []
    return run, html, page


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Shown:
    """The page of a run that passed, with topics; tests only look at it."""
    return show(tmp_path_factory.mktemp("run"))


def test_every_number_of_the_table_is_that_of_metrics_json(shown: Shown) -> None:
    run, _, page = shown
    models = json.loads((run / "metrics.json").read_text())["models"]
    assert set(page.cells) == {(model, metric) for model in models for metric in models[model]}
    for (model, metric), (value, text) in page.cells.items():
        assert float(value) == models[model][metric]
        digits, scale = (3, 1) if metric == "intra_list_diversity" else (2, 100)
        assert text.replace(" (best)", "") == f"{scale * models[model][metric]:.{digits}f}"


def test_the_best_of_a_column_is_marked(shown: Shown) -> None:
    _, _, page = shown
    best = {
        (model, metric) for (model, metric), (_, text) in page.cells.items() if "(best)" in text
    }
    assert {model for model, metric in best if metric == "recall_at_500"} == {"merged_alpha_50"}
    assert {model for model, metric in best if metric == "l2_relevance"} == {"content"}
    assert not [metric for _, metric in best if metric == "cold_share"]


def test_the_verdict_comes_first_and_in_words(tmp_path: Path) -> None:
    _, html, page = show(tmp_path, passed=False)
    assert page.text.index("Not passed") < page.text.index("recall@500")
    assert "1 of 3 rules fails" in page.text
    assert "the best baseline <itemknn> has 24.31 %" in page.text
    assert "not measured" in page.text
    assert "difference +1.20, bound +0.00, interval +0.40 to +2.00 points" in page.text
    assert "<itemknn>" not in html


def test_data_cost_and_how_to_reproduce_are_told(shown: Shown) -> None:
    _, _, page = shown
    for told in (
        "12,345",
        "678",
        "777",
        "2025-03-01 12:30 UTC",
        "timestamp is null: 3",
        "mtmh run --data data/here",
    ):
        assert told in page.text
    for told in ("code-1", "seed 3", "f" * 64, "68 s", "900 MiB", "1.66 times the best baseline"):
        assert told in page.text


def test_nothing_of_the_data_becomes_markup(tmp_path: Path) -> None:
    title = '</style><script>alert("{word}")</script><img src=x onerror=alert({number})>'
    _, html, page = show(tmp_path, title=title)
    assert html.count("&lt;script&gt;alert(&#34;") >= 5 * SHOWN_TOGETHER
    assert "script" not in page.tags
    assert "img" not in page.tags
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert '<script>alert("Bread")' in page.text


SHOWN_TOGETHER = 3 * examples.LIST_LENGTH


@pytest.mark.parametrize(
    ("head", "missing"), [("relevance", "engagement"), ("engagement", "relevance")]
)
def test_a_single_head_has_a_page_of_its_own(tmp_path: Path, head: str, missing: str) -> None:
    """No point, row or list of the head that the model does not have, and no talk of a merge."""
    _, html, page = show(tmp_path, head=head)
    assert f"This model has the {head} head alone" in page.text
    rows = {model for model, _ in page.cells}
    assert f"{head}_head" in rows
    assert f"{missing}_head" not in rows
    assert f"{missing.capitalize()} head" not in page.text
    assert page.text.count(f"{head.capitalize()} head") >= 5
    assert f"{missing} head<" not in html
    assert "alpha 0 to 100" not in page.text
    assert f"alpha {'100' if head == 'engagement' else '0'})" not in page.text
    assert "Merged, alpha 50" in {text for text in re.findall(r"Merged, alpha \d+", page.text)}
    assert html.count("share a topic with the trigger") == 5


def test_the_page_stands_alone(shown: Shown) -> None:
    _, html, page = shown
    assert re.findall(r"(?:https?:)?//\w[\w.]*", html) == []
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)
    references = [
        value for _, name, value in page.attributes if name in ("href", "src", "xlink:href")
    ]
    identities = [value for _, name, value in page.attributes if name == "id"]
    assert all(value.startswith("#") and value[1:] in identities for value in references)
    assert len(identities) == len(set(identities))
    assert "@import" not in html


def test_pictures_tell_what_they_show_and_the_page_fits_a_phone(shown: Shown) -> None:
    _, _, page = shown
    drawings = page.tags.count("svg")
    assert drawings == 4
    assert (
        sum(
            tag == "svg" and name == "aria-label" and len(value) > 20
            for tag, name, value in page.attributes
        )
        == 4
    )
    assert ("meta", "content", "width=device-width, initial-scale=1") in page.attributes
    assert ("html", "lang", "en") in page.attributes
    headings = [tag for tag in page.tags if re.fullmatch(r"h\d", tag)]
    assert headings[0] == "h1"
    assert all(int(b[1]) <= int(a[1]) + 1 for a, b in pairwise(headings))


def test_the_picture_for_the_readme_lies_beside_the_page(shown: Shown) -> None:
    run, _, _ = shown
    with Image.open(run / "alpha.png") as picture:
        assert picture.width > 1000
    drawn = (run / "alpha.svg").read_text()
    for label in (
        "ItemKNN",
        "content alone",
        "merged, alpha 50 (served)",
        "alpha 30",
        "alpha 70",
        "relevance head",
    ):
        assert label in drawn


def test_the_same_run_gives_the_same_page(shown: Shown) -> None:
    run, html, _ = shown
    report.write(run, make_search())
    assert (run / "report.html").read_text() == html


def test_data_without_topics_gets_a_page_too(tmp_path: Path) -> None:
    _, _, page = show(tmp_path, has_topics=False)
    assert "no item of this data has topics" in page.text
    assert "coverage takes the place of relevance" in page.text
    assert "nan" not in page.text.lower()
    assert "None" not in page.text
    assert page.cells["itemknn", "l2_relevance"] == ("", "—")
    assert not {value for _, name, value in page.attributes if name == "class"} & {
        "topic",
        "topic same",
    }


def test_triggers_are_popular_ones_on_which_the_heads_disagree() -> None:
    search = make_search()
    popularity = np.arange(ITEMS)[::-1].copy()

    def half_agree(items: np.ndarray, k: int, head: str) -> tuple[np.ndarray, np.ndarray]:
        ids, scores = search(items, k, head)
        own = search(items, k, "relevance")[0]
        return np.where(
            items[:, None] % 2 == 0, own, ids
        ), scores  # on even items both heads say the same

    chosen = examples.choose(popularity, half_agree, seed=0)
    assert len(set(chosen.tolist())) == 5
    assert (chosen % 2 == 1).all()
    assert (chosen < ITEMS // 2).all()
    assert (examples.choose(popularity, half_agree, seed=0) == chosen).all()
    assert len(examples.choose(np.array([0, 3, 0, 1]), search, seed=0)) <= 2


def test_an_example_shows_marks_and_provenance() -> None:
    search = make_search()
    triggers = np.array([7, 100], np.int32)
    for example, number in zip(
        examples.collect(triggers, item_table(True), np.arange(ITEMS), search, HALF),
        triggers,
        strict=True,
    ):
        assert example.users == number
        assert (
            len(example.heads["engagement"])
            == len(example.heads["relevance"])
            == len(example.merged)
            == examples.LIST_LENGTH
        )
        for line in [*example.heads["engagement"], *example.heads["relevance"], *example.merged]:
            assert line.item.title != example.trigger.title
            shared = set(line.item.l2_topics) & set(example.trigger.l2_topics)
            assert (line.match == "l2") == bool(shared)
            assert set(line.shared) == (
                shared or set(line.item.l1_topics) & set(example.trigger.l1_topics)
            )
        origins = [line.provenance for line in example.merged]
        assert origins.count("engagement") + origins.count("both") >= examples.LIST_LENGTH // 2 - 1
        titles = {line.item.title for line in example.heads["engagement"]}
        assert all(
            line.item.title in titles for line in example.merged if line.provenance == "both"
        )


def test_a_third_head_has_its_list_its_quota_and_its_name(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    metrics = json.loads((run / "metrics.json").read_text())
    metrics["models"]["fresh_head"] = metrics["models"]["relevance_head"]
    (run / "metrics.json").write_text(json.dumps(metrics))
    config = yaml.safe_load((run / "config.yaml").read_text())
    quotas = {"engagement": 50, "relevance": 30, "fresh": 20}
    config["retrieval"]["channels"] = [{"head": h, "quota": q} for h, q in quotas.items()]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    search = make_search()

    def three(items: np.ndarray, k: int, head: str) -> tuple[np.ndarray, np.ndarray]:
        return search(items, k, "relevance" if head == "fresh" else head)

    report.write(run, three)
    text = " ".join(Page((run / "report.html").read_text()).text.split())
    assert (
        "50 % of the candidates from the engagement head, 30 % from the relevance head,"
        " 20 % from the fresh head (alpha 50)" in text
    )
    assert text.count("Fresh head") >= 2
    assert "several heads" in text
    assert "both heads" not in text


def test_short_lists_and_missing_titles_are_put_up_with() -> None:
    items = item_table(True, title=" ")

    def poor(items: np.ndarray, k: int, head: str) -> tuple[np.ndarray, np.ndarray]:
        ids = np.full((len(items), k), -1, np.int32)
        ids[:, 0], ids[:, 1] = items, 3  # the trigger itself and one candidate
        return ids, np.zeros((len(items), k), np.float32)

    example = examples.collect(np.array([5], np.int32), items, np.ones(ITEMS, int), poor, HALF)[0]
    assert [line.item.title for line in example.heads["engagement"]] == ["item i003"]
    assert [line.provenance for line in example.merged] == ["both"]


def test_popularity_counts_users_not_candidates(shown: Shown) -> None:
    run, _, _ = shown
    counted = report.RunPage.of(run).users_per_trigger(item_table(True))
    rows = candidate_table().to_pylist()
    expected = {
        (row["user_id"], row["trigger_id"]) for row in rows if row["model"] == "merged_alpha_50"
    }
    assert counted.sum() == len(expected)
    assert counted[0] == sum(trigger == "i000" for _, trigger in expected)


def test_heads_far_apart_or_all_alike_can_be_drawn() -> None:
    same = {name: {"recall_at_500": 0.2, "l2_relevance": 0.3, "coverage": 0.4} for name in TABLE}
    assert len(plots.tradeoff(same, 50).axes) == 2
    assert plots.curves({"pairs": np.arange(3), "engagement_loss": np.full(3, np.nan)}) == {}


@pytest.mark.skipif(
    not shutil.which("chromium"), reason="chromium is missing: apt-get install chromium"
)
@pytest.mark.parametrize("width", [390, 1240])
def test_a_real_browser_shows_the_page(shown: Shown, tmp_path: Path, width: int) -> None:
    run, _, _ = shown
    picture = tmp_path / "page.png"
    quiet = [
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
    ]
    subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-sync", "--hide-scrollbars", *quiet,
         f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},2000", f"--screenshot={picture}",
         (run / "report.html").as_uri()],
        check=True, capture_output=True, timeout=120,
    )  # fmt: skip
    with Image.open(picture) as seen:
        colors = seen.convert("RGB").getcolors(maxcolors=1 << 24) or []
        assert seen.width == width
    assert len(colors) > 200
    assert max(colors)[1] == (255, 255, 255)  # dark on white
