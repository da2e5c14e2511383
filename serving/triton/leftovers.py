"""Triton's process, and what it must not leave behind, whatever ends it or us: its stubs, their
shared memory, its secret in `ps`.
"""

import ctypes
import logging
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import IO

SHARED_MEMORY = Path("/dev/shm")
EXIT = 5  # seconds that Triton may take to stop
# Waits until the other end of its input is closed, which the kernel does when we end, however that
# was.
GUARDIAN = 'cat > /dev/null; kill -s KILL -- "-$1"; rm -f "$2"*'

log = logging.getLogger("mtmh.triton")
_libc = ctypes.CDLL(None)  # before any fork


def start_process(
    command: list[str], environment: dict[str, str], output: IO[bytes]
) -> subprocess.Popen[bytes]:
    """A session of its own: a Ctrl-C in the terminal is ours to pass on, and its children can be
    ended with it.
    """
    us = os.getpid()

    def die_with_parent() -> None:
        _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it dies with us, however we die
        if os.getppid() != us:
            os._exit(1)

    return subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=die_with_parent,
    )


def stop_process(process: subprocess.Popen[bytes], prefix: str) -> None:
    """End Triton and what it started, and remove the shared memory named `prefix`* that it may have
    left.
    """
    process.terminate()
    try:
        process.wait(EXIT + 5)
    except subprocess.TimeoutExpired:
        log.warning("Triton did not stop within %s s: killed", EXIT + 5)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for region in SHARED_MEMORY.glob(f"{prefix}*"):
        region.unlink(missing_ok=True)


def end_with_us(group: int, prefix: str) -> subprocess.Popen[bytes]:
    """Start the shell that ends process group `group` when we die; it removes the shared memory
    named `prefix`*.

    Where Triton alone is killed, its supervisor does this; this process is for the death of the
    supervisor.
    """
    return subprocess.Popen(
        ["/bin/sh", "-c", GUARDIAN, "mtmh-guardian", str(group), str(SHARED_MEMORY / prefix)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def sweep(prefix: str) -> None:
    """Remove the stubs and the shared memory of servers whose owner, the number after `prefix`,
    does not run.
    """
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            command = (process / "cmdline").read_bytes().decode(errors="replace")
            stub, _, name = command.partition(f"{prefix}-")
            if "triton_python_backend_stub" in stub and not _runs(name.split("-")[0]):
                os.kill(int(process.name), signal.SIGKILL)
    for region in SHARED_MEMORY.glob(f"{prefix}-*"):
        if not _runs(region.name.removeprefix(f"{prefix}-").split("-")[0]):
            region.unlink(missing_ok=True)


def hide(pid: int, secret: str) -> None:
    """Blank `secret` in the command line of our child `pid`, which every user of this machine can
    read.

    The server has read its options by then.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end of proc(5)
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        memory.seek(start)
        arguments = memory.read(end - start)
        memory.seek(start)
        memory.write(arguments.replace(secret.encode(), b"x" * len(secret)))


def _runs(owner: str) -> bool:
    return not owner.isdecimal() or Path(f"/proc/{owner}").exists()
