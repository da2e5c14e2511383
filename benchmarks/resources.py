"""Memory and disk that each step needs, as a formula of the data's size, checked at a third size.

The synthetic world at `--scales` times its users and items, a whole run each with the settings of
`--size`. The formula is the line through the first and the last; the one between them is what it is
checked on. Memory is the step's largest resident set, of a process of its own; disk is what it
reads and writes as artifacts, all of which a cluster puts on the node of its pod.
"""

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from benchmarks.result import write
from mtmh.config import SyntheticSettings
from mtmh.stages import STAGES

FOLDER = Path("runs")
# The gate reads two small files, and keeps nothing here.
MEASURED = [stage for stage in STAGES if stage.name != "gate"]
Figures = dict[str, dict[str, float]]  # by step: memory, disk (MiB)


def main(
    scales: Annotated[str, typer.Option(help="Three, the least first.")] = "1,3,10",
    size: Annotated[str, typer.Option(help="Whose settings.")] = "laptop",
) -> None:
    """MiB of each step: fixed, a million interactions, and how far a third size is from that."""
    FOLDER.mkdir(exist_ok=True)
    events, figures = [], []
    for scale in (int(text) for text in scales.split(",")):
        with TemporaryDirectory(prefix="bench-resources-", dir=FOLDER) as folder:
            million, measured = measure(Path(folder), scale, size)
        events.append(million)
        figures.append(measured)
        print(f"  {million:.3f} million interactions: {measured}", flush=True)
    formula = {
        step: {of: fitted(events, [figure[step][of] for figure in figures]) for of in measured}
        for step, measured in figures[0].items()
    }
    # The worst step is the one to plan by.
    errors = {step: line["memory"]["error"] for step, line in formula.items()}
    worst = max(errors, key=lambda step: abs(errors[step]))
    details = {
        "baseline": "MiB that the formula says, at the second size",
        "million_interactions": events,
        "measured": figures,
        "formula": formula,
        "worst_step": worst,
    }
    memory = figures[1][worst]["memory"]
    said = memory / (1 + errors[worst])
    write("resources", memory, f"MiB of the step {worst}", said, details)


def measure(folder: Path, scale: int, size: str) -> tuple[float, Figures]:
    """Million interactions of the world at `scale`, and what each step of a run over it took."""
    world = SyntheticSettings()
    command = [sys.executable, "-m", "mtmh_cli", "run", "--size", size, "--runs", str(folder)]
    for what in ("users", "items"):
        command += ["--set", f"data.synthetic.{what}={scale * getattr(world, what)}"]
    # How good so small a world's model is does not matter here: it need not pass the gate.
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    metrics = json.loads((folder / "latest" / "metrics.json").read_text())
    made = {stage.artifact: disk(folder, stage.name, stage.artifact) for stage in MEASURED}
    figures = {
        stage.name: {
            "memory": float(metrics["peak_memory_mb"][stage.name]),
            "disk": round(sum(made[name] for name in (*stage.needs, stage.artifact)), 2),
        }
        for stage in MEASURED
    }
    return round(metrics["data"]["rows"] / 1e6, 4), figures


def disk(folder: Path, step: str, artifact: str) -> float:
    """MiB of what a step wrote as its artifact."""
    (out,) = folder.glob(f".pipeline/*/{step}/{artifact}")
    return sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 2**20


def fitted(sizes: list[float], values: list[float]) -> dict[str, float]:
    """The line through the first and the last, and the middle's relative distance from it."""
    slope = (values[-1] - values[0]) / (sizes[-1] - sizes[0])
    fixed = values[0] - slope * sizes[0]
    error = values[1] / (fixed + slope * sizes[1]) - 1
    return {"fixed": round(fixed, 1), "per_million": round(slope, 1), "error": round(error, 3)}
