"""What the site has from outside of docs/ (hooks of mkdocs): README as front page, what it links
to, pictures."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "SECURITY.md": "SECURITY.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
}
OTHERS = ("LICENSE", "CITATION.cff", "examples/own_log.ipynb")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add them under the names that `on_page_markdown` makes of the links."""
    pictures = [
        str(path.relative_to(ROOT)) for path in sorted((ROOT / "benchmarks/results").glob("*.png"))
    ]
    for name in (*PAGES, *OTHERS, *pictures):
        files.append(File.generated(config, PAGES.get(name, name), abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links as they are right in the repository, to where the site has the same."""
    return (
        markdown.replace("](docs/", "](")
        .replace("](../", "](")
        .replace("](README.md", "](index.md")
    )
