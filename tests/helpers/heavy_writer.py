"""A process that appends without a pause, 16 at a time, and prints the request_id of each record
once it is on disk.
"""

import asyncio
import sys
from pathlib import Path

from helpers.log_records import exposure
from mtmh.exposures.log import LogWriter


async def main(directory: Path, first: int, segment_bytes: int) -> None:
    log = LogWriter(directory, segment_bytes=segment_bytes)

    async def write(lane: int) -> None:
        number = first + lane
        while True:
            await log.append([exposure(number, candidates=50)])
            sys.stdout.write(f"request-{number}\n")
            sys.stdout.flush()
            number += 16

    await asyncio.gather(*(write(lane) for lane in range(16)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
