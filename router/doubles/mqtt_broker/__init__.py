"""An embedded MQTT 5 broker for demo, development and tests. NOT for production.

Question: what does a real broker do with these packets, and what becomes of us when it misbehaves?

`broker` starts and stops; `connection` is one client's TCP connection and the rules for a single client;
`packets` reads them; `exchange` decides who gets what; `session` holds what one client is owed, `group` what a
shared subscription is owed; `message` is what travels; `topics` matches; `faults` breaks things on purpose;
`client` speaks raw packets for tests. Nothing below `connection` knows sockets or tasks.

Scope: MQTT 5 only, QoS 0 and 1 (Maximum QoS 1 is announced), no topic aliases, no enhanced authentication, state
in memory, loopback only. Everything a client sends is acknowledged at once, so a client that honours Receive
Maximum is never held back by it; a full queue is answered with PUBACK 0x97 instead of being hidden.
"""

from router.doubles.mqtt_broker.broker import Broker
from router.doubles.mqtt_broker.client import RawClient
from router.doubles.mqtt_broker.faults import Faults, Limits, Stats

__all__ = ["Broker", "Faults", "Limits", "RawClient", "Stats"]
