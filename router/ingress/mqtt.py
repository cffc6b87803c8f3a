"""Requests by MQTT v5: one connection takes them in, another publishes the replies, a journal stands between.

This file holds the connection that reads, decides when it does, and owns the tasks: one for each message. What
happens to a message is in `mqtt_exchange`.

Reading stops while too many requests are open, the journal lags or refuses, or the dispatcher has no room. Then
nothing is dropped: messages stay with the broker, and a pause longer than two keepalive intervals ends the
connection, which is made again when there is room (brokers that can give the messages to another router).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from router.domain.errors import JournalError, RequestError
from router.domain.events import IngressEvent
from router.ingress.cancels.mqtt import Cancels
from router.ingress.mqtt_client import Backoff, Disconnected, MqttConnection
from router.ingress.mqtt_exchange import Exchanges
from router.ingress.mqtt_options import MqttOptions
from router.ingress.mqtt_reader import SOURCE
from router.ingress.mqtt_replies import Replies, Status
from router.ingress.verdicts.mqtt import Verdicts
from router.ports.dispatch import Dispatch, EventSink
from router.ports.journal import Journal
from router.wire.mqtt import read_feedback
from router.wire.mqtt_packet import Publish

__all__ = ["MqttIngress", "MqttOptions"]

POLL_S = 0.02
"""How often a paused ingress looks whether there is room: the dispatcher does not say when it has."""
RESUME_RATIO = 0.75
"""Reading goes on at this share of the window, so that it does not stop and start at every message."""
PURGE_SHARE = 60
"""Purges within one retention time."""


class MqttIngress:
    """The queue's door. `run` until cancelled or stopped; the journal is the caller's to close."""

    def __init__(
        self,
        options: MqttOptions,
        dispatch: Dispatch,
        journal: Journal,
        sink: EventSink,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        rng: Random | None = None,
        status: Callable[[], bytes] | None = None,
    ) -> None:
        """`status` is the JSON of the retained status message. `SettingsError` if a TLS file cannot be used."""
        options.tls()
        self._options, self._dispatch, self._journal = options, dispatch, journal
        self._sink, self._wall, self._rng = sink, wall, rng or Random()
        self._replies = Replies(options, sink.emit, wall, self._rng)
        self.verdicts = Verdicts(options, self._replies, self._event)
        """Asks those whom requests name about answers."""
        self._exchanges = Exchanges(options, dispatch, journal, self._replies, emit=sink.emit, clocks=(monotonic, wall))
        taken_back = (self._exchanges.cancel, self._exchanges.early.forget_old)
        self.cancels = Cancels(options, self._replies, *taken_back, self._event)
        """Hears what senders take back."""
        self._status = None if status is None else Status(self._replies, options.status_topic, status, self._event)
        self._tasks: set[asyncio.Task[None]] = set()
        self._services: tuple[asyncio.Task[None], ...] = ()
        self._connection: MqttConnection | None = None
        self._is_paused = self._is_stopping = False
        self.is_connected = False
        """Subscribed: requests can come."""

    async def run(self) -> None:
        """Recover, connect, take in. Ends by `stop`, by cancellation, or by an error in the router itself."""
        try:
            await self._recover()
            self._services = (
                asyncio.create_task(self._replies.run(), name="mqtt replies"),
                asyncio.create_task(self._stay_connected(), name="mqtt requests"),
                asyncio.create_task(self.cancels.run(), name="mqtt cancels"),
                asyncio.create_task(self._purge(), name="journal purge"),
                *([] if self._status is None else [asyncio.create_task(self._status.run(), name="mqtt status")]),
            )
            await asyncio.wait(self._services, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended = [task for task in self._services if task.done() and not task.cancelled()]
            await _cancel((*self._services, *self._tasks))
        for task in ended:
            task.result()

    async def stop(self, grace_s: float) -> None:
        """Stop reading, finish what is open within the grace, publish, disconnect. The rest stays journalled."""
        self._is_stopping = True
        if self._connection is not None:
            self._connection.pause()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=grace_s)
        await _cancel((*self._tasks, *self._services))

    def status_changed(self) -> None:
        """The status message says something else now."""
        if self._status is not None:
            self._status.changed()

    @property
    def open_requests(self) -> int:
        """Messages taken in and not yet done with."""
        return len(self._tasks)

    async def _recover(self) -> None:
        while True:
            try:
                entries = await self._journal.unfinished()
                break
            except JournalError as error:
                self._event("journal_failed", error.message)
                await asyncio.sleep(self._options.backoff_max_s)
        resumed = [self._exchanges.reopen(entry) for entry in entries]
        if resumed:
            self._sink.emit(IngressEvent(source=SOURCE, what="recovered", count=len(resumed), at=self._wall()))
        for carry_on in resumed:
            self._start(carry_on())

    async def _stay_connected(self) -> None:
        """Subscribes at every connection, resumed or not: mosquitto 2.0.11 restores a session after its own restart,
        but not the session's shared subscriptions."""
        backoff = Backoff(self._options, self._rng)
        while True:
            while not self._has_room(1.0):  # noqa: ASYNC110  # no one tells when there is
                await asyncio.sleep(POLL_S)
            connection = self._connection = MqttConnection(
                self._options, self._options.client_id, on_message=self._on_message, keep_session=True
            )
            try:
                await connection.open()
                await connection.subscribe(self._options.filters)
                self.is_connected = True
                self._event("connected", "session resumed" if connection.session_present else "")
                reason = await asyncio.shield(connection.closed)
            except Disconnected as error:
                reason = error
            finally:
                lasted_s = connection.lasted_s
                self.is_connected = False
                self._connection = None
                self._resumed()
                await connection.close()
            self._event("disconnected", reason.detail)
            await asyncio.sleep(backoff.wait_s(lasted_s=lasted_s))

    async def _purge(self) -> None:
        while True:
            await asyncio.sleep(self._options.retention_s / PURGE_SHARE)
            try:
                await self._journal.purge(before_at=self._wall() - self._options.retention_s)
            except JournalError as error:
                self._event("journal_failed", error.message)

    def _on_message(self, message: Publish) -> None:
        connection = self._connection
        if connection is None or self._is_stopping:
            return  # not acknowledged: the broker sends it again
        if message.topic == self._options.feedback_topic:
            self._feedback(message)
            connection.ack(message)
            return
        self._start(self._exchanges.take(message, lambda: connection.ack(message)))
        if not self._is_paused and not self._has_room(1.0):
            self._is_paused = True
            connection.pause()
            self._event("paused")
            asyncio.get_running_loop().call_later(POLL_S, self._look_for_room)

    def _feedback(self, message: Publish) -> None:
        try:
            if message.problem is not None:
                raise RequestError(message.problem)
            feedback = read_feedback(message.payload)
        except RequestError as error:
            self._event("invalid", f"feedback: {error.code}")
            return
        if not self._dispatch.feedback(feedback.decision_id, feedback.quality):
            self._event("feedback_unknown")

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a message failed inside the ingress", "exception": error, "task": task}
            )

    def _has_room(self, ratio: float) -> bool:
        return (
            len(self._tasks) - self._dispatch.held(SOURCE) < self._options.receive_maximum * ratio
            and self._exchanges.stalled == 0
            and self._journal.backlog < self._options.journal_backlog * ratio
            and self._dispatch.has_room()
        )

    def _look_for_room(self) -> None:
        if not self._is_paused or self._is_stopping:
            return
        if self._has_room(RESUME_RATIO):
            self._resumed()
        else:
            asyncio.get_running_loop().call_later(POLL_S, self._look_for_room)

    def _resumed(self) -> None:
        if self._is_paused:
            self._is_paused = False
            self._event("resumed")
            if self._connection is not None:
                self._connection.resume()

    def _event(self, what: str, detail: str = "") -> None:
        self._sink.emit(IngressEvent(source=SOURCE, what=what, detail=detail, at=self._wall()))


async def _cancel(tasks: tuple[asyncio.Task[None], ...]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
