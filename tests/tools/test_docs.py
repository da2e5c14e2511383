"""What users read: it links to what is there, keeps to its size, and makes a site without a
warning.
"""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name != "faults.md"),
]


def tracked(pattern: str) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", pattern], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return [ROOT / name for name in listed.stdout.splitlines()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_no_wider_than_a_screen(page: Path) -> None:
    assert [line for line in page.read_text().splitlines() if len(line) > 100] == []


def test_the_readme_is_read_in_ten_minutes() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.parametrize("page", tracked("*.md"), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text())
    broken = [
        link for link in links if not link.startswith("http") and not (page.parent / link).exists()
    ]
    assert broken == []


@pytest.mark.parametrize("page", tracked("*.md"), ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_named_is_there(page: Path) -> None:
    """From the top, beside the page, or a test by its path below tests/."""
    if page.name == "CHANGELOG.md":
        return  # it names what was
    names = re.findall(
        r"`([a-z_0-9]+(?:/[A-Za-z_0-9.-]+)+\.(?:py|yaml|md|css|toml))`", page.read_text()
    )
    folders = (ROOT, page.parent, ROOT / "tests")
    assert [name for name in names if not any((folder / name).exists() for folder in folders)] == []


def test_the_site_is_made_without_a_warning(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-W",
        "error::UserWarning",
        "-m",
        "mkdocs",
        "build",
        "--site-dir",
        str(tmp_path),
    ]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert "WARNING" not in made.stderr
    front = (tmp_path / "index.html").read_text()
    for link in re.findall(r'(?:href|src)="([^"#:?]+)"', front):
        assert (tmp_path / link).exists(), link
    assert "https://fonts" not in front
