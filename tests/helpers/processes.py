"""What runs on this machine, from /proc, and ports that are free."""

import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.server_process import free_ports
from serving.triton.supervisor import Ports


def triton_ports() -> Ports:
    """Three of them, as Triton wants them."""
    return Ports(*free_ports(3))


def running(group: int) -> list[str]:
    """The names of the live processes of a process group."""
    names = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text().rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, _, own = rest.split()[:3]
        if int(own) == group and state != "Z":
            names.append(name.partition("(")[2])
    return names


def children(pid: int) -> list[int]:
    """The process numbers of a process's children."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def until(true: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for what must come true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
