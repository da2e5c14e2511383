"""The one error that is meant for people."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


class UserError(Exception):
    """Something the user can mend: bad data, a bad setting, a missing file.

    The message says what was wrong, where (file, column, row count, an example) and what to write
    instead. The command line prints it alone, without a traceback, and exits with status 2.
    """


def fault_lines(error: "ValidationError") -> list[str]:
    """What is wrong with a file of settings: an indented line for every wrong key."""
    return [
        f"\n  {'.'.join(map(str, fault['loc'])) or 'all'}: {fault['msg']}"
        for fault in error.errors()
    ]
