"""What a run says at its begin and at its end; the screen and the tables of all commands."""

import json
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtmh.object_store import resolved
from pipelines.runs_folder import serving

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table


COLUMNS = {
    "recall_at_20": "R@20",
    "recall_at_100": "R@100",
    "recall_at_500": "R@500",
    "l1_relevance": "L1",
    "l2_relevance": "L2",
    "coverage": "cover",
    "intra_list_diversity": "divers",
    "cold_share": "cold",
    "cold_recall_at_500": "R cold",
}


def announce(source: str, files: list[Path]) -> None:
    """Say which data is read and which configuration files make the settings."""
    where = "the synthetic world" if source == "synthetic" else resolved(source)
    print(f"data     {where}", flush=True)
    print(f"settings {', then '.join(str(file) for file in files)}", flush=True)


def summarize(run: Path, runs: Path, started: float) -> None:
    """Print the data, the table of models, the verdict rule by rule, where everything lies, and
    what it took.

    `started` is time.perf_counter() of the beginning.
    """
    metrics = json.loads((run / "metrics.json").read_text())
    console = screen()
    console.print()
    # How large the data are: a figure of a model says little without it.
    data = metrics["data"]
    sizes = ("rows", "users", "items", "test_users", "pairs")
    counts = ", ".join(f"{data[key]:,} {key.replace('_', ' ')}" for key in sizes)
    console.print(f"Data: {counts}; T2 begins {data['split_time']}", soft_wrap=True)
    # Not every figure is there: relevance needs topics, and cold items exist in few data sets.
    table = plain_table("percent, all test users")
    table.add_column("model", no_wrap=True)
    for title in COLUMNS.values():
        table.add_column(title, justify="right", no_wrap=True)
    for name, figures in metrics["models"].items():
        values = (figures.get(key) for key in COLUMNS)
        table.add_row(name, *("-" if value is None else f"{100 * value:.2f}" for value in values))
    console.print(table)
    # The verdict with every rule, so that a rejected run says what to change.
    passed = metrics["gate"]["passed"]
    verdict, color = ("PASSED", "green") if passed else ("REJECTED", "red")
    console.print(f"Gate: {verdict}", style=f"bold {color}")
    for rule in metrics["gate"]["rules"]:
        mark = "ok  " if rule["passed"] else "FAIL"
        console.print(f"  {mark} {rule['rule']}: {rule['why']}", soft_wrap=True)
    _places(console, run, runs, metrics)
    # The steps were children of this process: CPU seconds together, memory (KiB) of the largest.
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    peak = max(usage.ru_maxrss for usage in usages)
    took = f"Took     {time.perf_counter() - started:.0f} s, {cpu:.0f} s of CPU in all processes"
    console.print(f"{took}, {peak // 1024} MB of memory in the largest", soft_wrap=True)


def screen() -> "Console":
    """Emoji and markup off: ids and titles may hold colons and brackets. A figure is never cut: a
    terminal narrower than the table wraps it."""
    from rich.console import Console

    terminal = Console()
    # A pipe or a file has no width of its own.
    width = max(terminal.width, 80) if terminal.is_terminal else 120
    return Console(highlight=False, markup=False, emoji=False, width=width)


def plain_table(title: str) -> "Table":
    """An empty table under its title, as every command draws it."""
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE, title=title, title_justify="left", pad_edge=False)


def _places(console: "Console", run: Path, runs: Path, metrics: dict[str, Any]) -> None:
    folder = _short(runs)
    option = "" if folder == "runs" else f" --runs {folder}"
    seconds = sum(metrics["seconds"].values())
    store = serving(runs, metrics["data"]["path"])
    for line in (
        "",
        f"Run      {_short(run)}   (also {folder}/latest; steps up to the gate:"
        f" {seconds:.0f} s when they ran)",
        f"Report   {_short(run / 'report.html')}   open it in a browser",
        f"Model    {_short(run / 'retriever')}   ask it: mtmh similar {folder}/latest ITEM_ID",
        f"MLflow   {folder}/mlflow.db   look at it: mtmh ui{option}",
    ):
        console.print(line, soft_wrap=True)
    # Only what passed was put into the store.
    if metrics["gate"]["passed"]:
        console.print(f"Serving  {_short(store)}   start it: mtmh serve{option}", soft_wrap=True)


def _short(path: Path) -> str:
    """The path from here when it lies below, in full otherwise."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
