"""A router that kills itself with -9 at the nth time that it comes by a point: `dying_router.py URL FOLDER POINT N`.

Journal and ingress over a real broker, with a dispatcher whose model appends each call to a file.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from router.domain.events import IngressEvent
from router.domain.outcome import Delta, Receipt, Reply, Usage
from router.domain.request import Request
from router.ingress.mqtt import MqttIngress, MqttOptions
from router.ingress.mqtt_client import MqttConnection
from router.ingress.mqtt_exchange import Exchanges
from router.ingress.mqtt_replies import Replies
from router.storage.journal import SqliteJournal
from router.storage.journal_rows import Rows


class Fate:
    """Where this process dies."""

    def __init__(self, point: str, nth: int) -> None:
        self._point, self._left = point, nth

    def at(self, name: str) -> None:
        """The process comes by here."""
        if name == self._point:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: type[Any], name: str, before: str, after: str) -> None:
        """Points before and after an awaited method."""
        inner = getattr(owner, name)

        async def wrapped(one: Any, *args: Any, **kwargs: Any) -> Any:
            self.at(before)
            result = await inner(one, *args, **kwargs)
            self.at(after)
            return result

        setattr(owner, name, wrapped)

    def soon_after(self, owner: type[Any], name: str, after: str) -> None:
        """A point in the loop's turn after a method."""
        inner = getattr(owner, name)

        def wrapped(one: Any, *args: Any) -> Any:
            result = inner(one, *args)
            asyncio.get_running_loop().call_soon(self.at, after)
            return result

        setattr(owner, name, wrapped)

    def around_commits(self) -> None:
        """Points before and after a commit, on the journal's thread."""
        commit = Rows.commit

        def wrapped(rows: Rows) -> None:
            self.at("commit")
            commit(rows)
            self.at("committed")

        setattr(Rows, "commit", wrapped)  # noqa: B010  # mypy has no word for it

    def everywhere(self) -> None:
        """Every point between a message and its delivered reply."""
        self.around(Exchanges, "take", "message", "taken")
        self.around(SqliteJournal, "receive", "receive", "received")
        self.around(SqliteJournal, "call_started", "call", "call_started")
        self.around(SqliteJournal, "answered", "answer", "answered")
        self.around(SqliteJournal, "delivered", "deliver", "delivered")
        self.around(Replies, "send", "send", "confirmed")
        self.soon_after(MqttConnection, "ack", "acknowledged")
        self.soon_after(MqttConnection, "publish", "published")
        self.around_commits()


class Sink:
    """Appends what happens at the door to a file."""

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / "events", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def emit(self, event: IngressEvent) -> None:
        os.write(self._file, f"{event.what} {event.count}\n".encode())


class Dispatcher:
    """Answers in three words, and appends each call to a file."""

    def __init__(self, folder: Path, fate: Fate) -> None:
        self._file, self._fate = os.open(folder / "calls", os.O_WRONLY | os.O_CREAT | os.O_APPEND), fate

    async def submit(self, request: Request, responder: Any = None, *, on_call: Any) -> Reply:
        await on_call()
        os.write(self._file, f"{request.id}\n".encode())
        self._fate.at("model")
        words = [f"{request.id}-{os.getpid()}-{number}" for number in range(3)]
        receipt = Receipt(f"d-{words[0]}", "small-a", "small", "p", 1 + request.attempts_before, 0.001, 0.0)
        if responder is not None:
            await responder.begin(receipt)
            for word in words:
                piece = [{"index": 0, "delta": {"content": word}}]
                await responder.delta(Delta(json.dumps(piece).encode(), 1))
                await asyncio.sleep(0)
                self._fate.at("streaming")
        whole = [{"index": 0, "message": {"role": "assistant", "content": words[0]}, "finish_reason": "stop"}]
        return Reply(request, json.dumps(whole).encode(), Usage(1, 1), receipt, 1)

    def has_room(self) -> bool:
        return True

    def held(self, source: str) -> int:
        return 0


async def main(url: str, folder: Path, fate: Fate) -> None:
    """Serve until SIGTERM, or death."""
    fate.everywhere()
    journal = SqliteJournal(folder / "journal.db")
    options = MqttOptions(url=url, backoff_min_s=0.02, backoff_max_s=0.1, receive_maximum=8)
    dispatcher: Any = Dispatcher(folder, fate)
    sink: Any = Sink(folder)
    ingress = MqttIngress(options, dispatcher, journal, sink)
    running = asyncio.create_task(ingress.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, lambda: asyncio.ensure_future(ingress.stop(5.0)))
    await running
    await journal.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), Fate(sys.argv[3], int(sys.argv[4]))))
