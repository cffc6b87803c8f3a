"""One shared subscription: which member gets the next message, and what waits for any of them."""

from __future__ import annotations

from collections import deque

from router.doubles.mqtt_broker.faults import Limits, Stats
from router.doubles.mqtt_broker.message import Delivery, Grant, Message, deliver
from router.doubles.mqtt_broker.session import Session


class Group:
    """Members of `$share/<group>/<filter>`, taken in turn among those that are connected and have room.

    Where none has room the messages wait here, not with a member, so that the next free one takes them. What a
    member had not acknowledged when its connection or session ended comes back to the front and goes to another
    with DUP; with nobody else connected it stays with the member until someone is (MQTT 5, 4.8.2, allows both).
    """

    def __init__(self, pattern: str, *, limits: Limits, stats: Stats) -> None:
        self.pattern = pattern
        self.members: dict[Session, Grant] = {}
        self._turns: deque[Session] = deque()
        self._waiting: deque[tuple[Message, bool]] = deque()
        self._limits = limits
        self._stats = stats

    def join(self, session: Session, grant: Grant) -> None:
        """Add a member, or change what it is granted, and give it what waits."""
        if session not in self.members:
            self._turns.append(session)
        self.members[session] = grant
        self.reclaim()

    def leave(self, session: Session) -> None:
        """Remove a member; what it holds in flight stays with it until it surrenders it."""
        del self.members[session]
        self._turns.remove(session)

    def offer(self, message: Message) -> bool:
        """Send to the next member with room, or let it wait; false where too many wait already.

        QoS 0, by the message or by every grant, does not wait for absent members.
        """
        if not self._waiting:
            member = self._next(message)
            if member is not None:
                member.send(deliver(message, self.members[member], group=self))
                return True
        if not self._worth_keeping(message):
            return True
        if len(self._waiting) >= self._limits.max_queued:
            self._stats.lost_full += 1
            return False
        self._waiting.append((message, False))
        return True

    def take_back(self, deliveries: list[Delivery]) -> None:
        """Put what a member did not acknowledge in front of what waits, in order, and send what can be sent."""
        self._waiting.extendleft((delivery.message, delivery.redelivered) for delivery in reversed(deliveries))
        self.pump()

    def reclaim(self) -> None:
        """While a member is connected, take what absent members did not acknowledge; then send what waits."""
        if any(member.wire is not None for member in self.members):
            absent = [member for member in self.members if member.wire is None]
            self.take_back([delivery for member in absent for delivery in member.surrender(self)])

    def pump(self) -> None:
        """Send what waits while a member has room."""
        while self._waiting:
            member = self._next(self._waiting[0][0])
            if member is None:
                return
            message, redelivered = self._waiting.popleft()
            delivery = deliver(message, self.members[member], group=self)
            delivery.redelivered = redelivered
            member.send(delivery)

    def _next(self, message: Message) -> Session | None:
        for _ in range(len(self._turns)):
            session = self._turns[0]
            self._turns.rotate(-1)
            if session.has_room(min(message.qos, self.members[session].qos)):
                return session
        return None

    def _worth_keeping(self, message: Message) -> bool:
        if any(member.wire is not None for member in self.members):
            return True
        return message.qos > 0 and any(grant.qos > 0 for grant in self.members.values())
