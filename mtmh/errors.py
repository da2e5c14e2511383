"""The one error that is meant for people."""


class UserError(Exception):
    """Something the user can mend: bad data, a bad setting, a missing file.

    The message says what was wrong, where (file, column, row count, an example) and what to write
    instead. The command line prints it alone, without a traceback, and exits with status 2.
    """
