"""Who gets what: sessions, subscriptions, shared groups and retained messages, without sockets or tasks."""

from __future__ import annotations

from collections.abc import Callable

import mqtt5
from msgspec import Struct

from router.doubles.mqtt_broker.faults import Faults, Limits, Stats
from router.doubles.mqtt_broker.group import Group
from router.doubles.mqtt_broker.message import Delivery, Grant, Message, deliver, merge, will_message
from router.doubles.mqtt_broker.session import NEVER_EXPIRES, Session, Wire
from router.doubles.mqtt_broker.topics import FilterTree, split_share, valid_filter

_MAX_ROUTES = 4096
_GRANTED = (
    mqtt5.SubAckReasonCode.GRANTED_QOS_AT_MOST_ONCE,
    mqtt5.SubAckReasonCode.GRANTED_QOS_AT_LEAST_ONCE,
)


class _Subscription(Struct, frozen=True):
    session: Session
    grant: Grant
    no_local: bool


class _Target(Struct, frozen=True):
    """One client a topic goes to; `own` is what it gets of what it published itself (No Local)."""

    session: Session
    grant: Grant | None
    own: Grant | None


class _Route(Struct, frozen=True):
    targets: tuple[_Target, ...]
    groups: tuple[Group, ...]


class Exchange:
    """The state that a restart keeps or loses. `clock` is monotonic seconds."""

    def __init__(self, *, limits: Limits, faults: Faults, stats: Stats, clock: Callable[[], float]) -> None:
        self.limits = limits
        self.faults = faults
        self.stats = stats
        self.clock = clock
        self._sessions: dict[str, Session] = {}
        self._groups: dict[str, Group] = {}
        self._retained: dict[str, Message] = {}
        self._tree: FilterTree[_Subscription | Group] = FilterTree()
        self._routes: dict[str, _Route] = {}

    def knows(self, client_id: str) -> bool:
        """Whether a session with this client id exists."""
        return client_id in self._sessions

    def open(self, client_id: str, *, clean_start: bool) -> tuple[Session, bool]:
        """The session for a connecting client, and whether it was there before.

        An open connection under the same id is displaced first; the caller attaches the new one.
        """
        self._displace(client_id)
        session = self._sessions.get(client_id)
        if session is not None and (clean_start or self._overdue(session)):
            self._end(session)
            session = None
        if session is not None:
            self.stats.resumed += 1
            return session, True
        session = Session(client_id, limits=self.limits, stats=self.stats, clock=self.clock)
        self._sessions[client_id] = session
        return session, False

    def attach(self, session: Session, wire: Wire) -> None:
        """Deliver over this connection from now on: first what is owed, in order."""
        session.wire = wire
        session.send_own()
        for group in session.groups.values():
            group.reclaim()

    def detach(self, session: Session) -> None:
        """The session's connection is gone: the will, the shared messages in flight, and the end if it is due."""
        session.suspend()
        now = self.clock()
        if session.will is not None:
            session.will_at = now + session.will.will_delay_interval
        session.ends_at = None if session.expiry_s == NEVER_EXPIRES else now + session.expiry_s
        for group in session.groups.values():
            group.reclaim()
        self._settle(session)

    def sweep(self) -> None:
        """End the sessions whose time is over and publish the wills that are due."""
        for session in tuple(self._sessions.values()):
            if session.wire is None:
                self._settle(session)

    def publish(self, message: Message) -> mqtt5.PubAckReasonCode:
        """Route one message. The reason says whether anybody matched, and whether every queue was full."""
        self.stats.received += 1
        if message.packet.retain:
            self._retain(message)
        route = self._routes.get(message.packet.topic) or self._find_route(message.packet.topic)
        accepted = refused = 0
        for target in route.targets:
            grant = target.own if target.session.client_id == message.publisher else target.grant
            if grant is not None:
                taken = self._offer(target.session, deliver(message, grant))
                accepted, refused = accepted + taken, refused + (not taken)
        for group in route.groups:
            taken = self._offer_group(group, message)
            accepted, refused = accepted + taken, refused + (not taken)
        if accepted:
            return mqtt5.PubAckReasonCode.SUCCESS
        if refused:
            return mqtt5.PubAckReasonCode.QUOTA_EXCEEDED
        self.stats.unmatched += 1
        return mqtt5.PubAckReasonCode.NO_MATCHING_SUBSCRIBERS

    def answer(self, requested: mqtt5.TopicFilter) -> mqtt5.SubAckReasonCode:
        """What SUBACK says to this filter."""
        if not valid_filter(requested.pattern):
            return mqtt5.SubAckReasonCode.TOPIC_FILTER_INVALID
        return _GRANTED[min(int(requested.max_qos), 1)]

    def subscribe(self, session: Session, requested: mqtt5.TopicFilter, identifier: int | None) -> None:
        """Add or replace one valid subscription and send the retained messages it asks for."""
        share, pattern = split_share(requested.pattern)
        identifiers = () if identifier is None else (identifier,)
        grant = Grant(min(int(requested.max_qos), 1), requested.retain_as_published, identifiers)
        self._routes.clear()
        if share is not None:
            group = self._groups.get(requested.pattern)
            if group is None:
                group = Group(requested.pattern, limits=self.limits, stats=self.stats)
                self._groups[requested.pattern] = group
                self._tree.add(pattern, group, group)
            session.groups[requested.pattern] = group
            group.join(session, grant)
            return
        new = self._tree.add(pattern, session, _Subscription(session, grant, requested.no_local))
        session.filters.add(pattern)
        handling = int(requested.retain_handling)
        if handling == 0 or (handling == 1 and new):
            self._send_retained(session, pattern, grant)

    def unsubscribe(self, session: Session, pattern: str) -> bool:
        """Remove one subscription; false where there was none."""
        if pattern in session.filters:
            self._routes.clear()
            session.filters.remove(pattern)
            self._tree.remove(pattern, session)
            return True
        group = session.groups.pop(pattern, None)
        if group is None:
            return False
        self._routes.clear()
        group.leave(session)
        if not group.members:
            del self._groups[pattern]
            self._tree.remove(split_share(pattern)[1], group)
        return True

    def _displace(self, client_id: str) -> None:
        session = self._sessions.get(client_id)
        if session is not None and session.wire is not None:
            self.stats.taken_over += 1
            session.wire.displace()
            self.detach(session)

    def _overdue(self, session: Session) -> bool:
        return session.wire is None and session.ends_at is not None and session.ends_at <= self.clock()

    def _settle(self, session: Session) -> None:
        if session.will_at is not None and session.will_at <= self.clock():
            self._publish_will(session)
        if self._overdue(session):
            self._end(session)

    def _end(self, session: Session) -> None:
        """Forget a session: its will is due, and its shared messages go to the other members."""
        del self._sessions[session.client_id]
        self._publish_will(session)
        shared = session.surrender()
        for pattern in (*session.filters, *session.groups):
            self.unsubscribe(session, pattern)
        by_group: dict[Group, list[Delivery]] = {}
        for delivery in shared:
            if delivery.group is not None:
                by_group.setdefault(delivery.group, []).append(delivery)
        for group, deliveries in by_group.items():
            group.take_back(deliveries)
        self.stats.sessions_ended += 1

    def _publish_will(self, session: Session) -> None:
        will, session.will, session.will_at = session.will, None, None
        if will is not None:
            self.publish(will_message(will, publisher=session.client_id, now=self.clock()))

    def _find_route(self, topic: str) -> _Route:
        by_session: dict[Session, list[_Subscription]] = {}
        groups: list[Group] = []
        for found in self._tree.match(topic):
            if isinstance(found, Group):
                groups.append(found)
            else:
                by_session.setdefault(found.session, []).append(found)
        targets = tuple(
            _Target(session, merge(s.grant for s in found), merge(s.grant for s in found if not s.no_local))
            for session, found in by_session.items()
        )
        if len(self._routes) >= _MAX_ROUTES:
            self._routes.clear()
        route = self._routes[topic] = _Route(targets, tuple(groups))
        return route

    def _offer(self, session: Session, delivery: Delivery) -> bool:
        """Whether the session took it; what a fault switch drops counts as taken."""
        copies = self._copies()
        taken = copies == 0 or session.offer(delivery)
        if copies == 2:
            session.offer(Delivery(delivery.message, delivery.qos, delivery.retain, delivery.identifiers))
        return taken

    def _offer_group(self, group: Group, message: Message) -> bool:
        copies = self._copies()
        taken = copies == 0 or group.offer(message)
        if copies == 2:
            group.offer(message)
        return taken

    def _copies(self) -> int:
        copies = self.faults.copies()
        self.stats.dropped += copies == 0
        self.stats.duplicated += copies == 2
        return copies

    def _retain(self, message: Message) -> None:
        if message.packet.payload:
            self._retained[message.packet.topic] = message
        else:
            self._retained.pop(message.packet.topic, None)

    def _send_retained(self, session: Session, pattern: str, grant: Grant) -> None:
        asked: FilterTree[bool] = FilterTree()
        asked.add(pattern, "", True)
        now = self.clock()
        for topic, message in tuple(self._retained.items()):
            if message.expired(now):
                del self._retained[topic]
            elif asked.match(topic):
                qos = min(message.qos, grant.qos)
                self._offer(session, Delivery(message, qos, True, grant.identifiers))
