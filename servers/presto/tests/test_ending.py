"""A process that is told to end does, whatever its queries are at."""

import subprocess
import sys
import textwrap
from pathlib import Path


def test_a_process_ends_though_its_callers_and_its_event_loop_are_gone_before_a_query_is() -> None:
    program = """
        import asyncio
        from pegboard_presto.engine import _UNDER_WAY
        from pegboard_presto.warehouse import open_warehouse

        async def main():
            async with open_warehouse() as warehouse:
                asking = asyncio.create_task(
                    warehouse.query("SELECT count(*) FROM flights a, flights b, flights c", 1)
                )
                while not _UNDER_WAY:
                    await asyncio.sleep(0.01)
                asking.cancel()

        asyncio.run(main())
        print("ended")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parent,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "ended\n"), done.stderr
