"""The AWS double in a thread of its own, for commands, which have an event loop of their own."""

from __future__ import annotations

import asyncio
from threading import Event, Thread

from router.doubles.aws.server import aws_double
from router.doubles.aws.world import World


class Running:
    """Serves a world until the block ends."""

    def __init__(self, world: World, *, stores: bool = False) -> None:
        self.world, self.url = world, ""
        self._stores = stores
        self._ready = Event()
        self._thread = Thread(target=lambda: asyncio.run(self._serve()))

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        async with aws_double(self.world, stores=self._stores) as double:
            self.url = double.url
            self._ready.set()
            await self._over.wait()

    def __enter__(self) -> Running:
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()
