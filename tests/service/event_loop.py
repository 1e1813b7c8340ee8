"""The event loop of what a test plays."""

import asyncio


async def turn() -> None:
    """Let the loop do what is due: callbacks, and what pipes hold."""
    for _ in range(3):
        await asyncio.sleep(0)
