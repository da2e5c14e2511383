"""What a run says at its begin and at its end."""

import json
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtmh.display import visible
from pipelines.runs_folder import serving

if TYPE_CHECKING:
    from rich.console import Console

    from mtmh.retrieval.query import CandidateLine


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
    where = "the synthetic world" if source == "synthetic" else str(Path(source).resolve())
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
    _data(console, metrics["data"])
    _table(console, metrics["models"])
    _verdict(console, metrics["gate"])
    _places(console, run, runs, metrics)
    console.print(_took(time.perf_counter() - started), soft_wrap=True)


def show_candidates(
    title: str, candidates: "list[CandidateLine]", with_trigger: bool = False
) -> None:
    """Print a list of candidates as a table."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE, title=title, title_justify="left", pad_edge=False)
    for name in ("item", "title", "topics", "head", *(["trigger"] if with_trigger else [])):
        table.add_column(name)
    table.add_column("p(item | user)" if with_trigger else "cosine", justify="right")
    for candidate in candidates:
        trigger = [candidate.trigger_id] if with_trigger else []
        texts = (
            visible(text, 120)
            for text in (
                candidate.item_id,
                candidate.title,
                candidate.topics,
                candidate.head,
                *trigger,
            )
        )
        table.add_row(*texts, f"{candidate.score:.{4 if with_trigger else 3}f}")
    screen().print(table)


def screen() -> "Console":
    """Emoji and markup off: ids and titles may hold colons and brackets. A figure is never cut: a
    terminal narrower than the table wraps it."""
    from rich.console import Console

    terminal = Console()
    width = max(terminal.width, 80) if terminal.is_terminal else 120
    return Console(highlight=False, markup=False, emoji=False, width=width)


def _data(console: "Console", data: dict[str, Any]) -> None:
    counts = ", ".join(
        f"{data[key]:,} {key.replace('_', ' ')}"
        for key in ("rows", "users", "items", "test_users", "pairs")
    )
    console.print(f"Data: {counts}; T2 begins {data['split_time']}", soft_wrap=True)


def _table(console: "Console", models: dict[str, dict[str, float | None]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(
        box=box.SIMPLE, title="percent, all test users", title_justify="left", pad_edge=False
    )
    table.add_column("model", no_wrap=True)
    for title in COLUMNS.values():
        table.add_column(title, justify="right", no_wrap=True)
    for name, figures in models.items():
        table.add_row(name, *(_percent(figures.get(key)) for key in COLUMNS))
    console.print(table)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _verdict(console: "Console", gate: dict[str, Any]) -> None:
    console.print(
        f"Gate: {'PASSED' if gate['passed'] else 'REJECTED'}",
        style="bold green" if gate["passed"] else "bold red",
    )
    for rule in gate["rules"]:
        console.print(
            f"  {'ok  ' if rule['passed'] else 'FAIL'} {rule['rule']}: {rule['why']}",
            soft_wrap=True,
        )


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
        *(
            [f"Serving  {_short(store)}   start it: mtmh serve{option}"]
            if metrics["gate"]["passed"]
            else []
        ),
    ):
        console.print(line, soft_wrap=True)


def _took(seconds: float) -> str:
    """Of this process and of the steps', which were its children: CPU seconds together, memory of
    the largest."""
    usages = [
        resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    ]
    cpu = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    peak = max(usage.ru_maxrss for usage in usages)  # KiB
    return (
        f"Took     {seconds:.0f} s, {cpu:.0f} s of CPU in all processes, {peak // 1024} MB of"
        " memory in the largest"
    )


def _short(path: Path) -> str:
    """The path from here when it lies below, in full otherwise."""
    path = path.resolve()
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
