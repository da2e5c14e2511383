"""A look again and again, whatever happens: a router that stopped would serve an old champion for
ever.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger("mtmh.router")


async def watch(name: str, look: Callable[[], Awaitable[None]], pause: Callable[[], float]) -> None:
    """`look` for ever, with `pause()` seconds between; what it raises is logged, once until it
    changes.
    """
    trouble = ""
    while True:
        try:
            await look()
            trouble = ""
        except Exception as error:  # said once, not at every look
            if trouble != repr(error):
                log.exception("a watch failed; it goes on", extra={"fields": {"watch": name}})
            trouble = repr(error)
        await asyncio.sleep(pause())
