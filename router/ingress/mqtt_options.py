"""Settings of the queue ingress, and what follows from them: address and topics."""

from __future__ import annotations

import ssl
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct
from pydantic import SecretStr

from router.domain.errors import SettingsError

_PORTS = {"mqtt": 1883, "mqtts": 8883}


class MqttOptions(Struct, frozen=True):
    """How to reach the broker and what to promise.

    `client_id` must be the router's own and stay the same over restarts: the broker keeps unacknowledged
    messages under it for `session_expiry_s`. Replies go out under `<client_id>-replies`. `receive_maximum` bounds
    the requests taken in and not yet answered. A request id answers for `retention_s`. Answers go to the callbacks that
    requests name under `callback_prefix` alone; empty allows all but the router's own topics.
    """

    url: str = "mqtt://127.0.0.1:1883"
    group: str = "routers"
    prefix: str = "router"
    callback_prefix: str = ""
    client_id: str = "router"
    username: str | None = None
    password: SecretStr | None = None
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    receive_maximum: int = 1024
    session_expiry_s: int = 86_400
    retention_s: float = 3600.0
    max_body_bytes: int = 4 * 1024 * 1024
    journal_backlog: int = 8192
    keepalive_s: int = 60
    timeout_s: float = 10.0
    backoff_min_s: float = 0.1
    backoff_max_s: float = 30.0

    def __post_init__(self) -> None:
        for name, text, forbidden in (("prefix", self.prefix, "+#\0"), ("group", self.group, "/+#\0")):
            if not text or any(char in text for char in forbidden):
                raise SettingsError(f"MQTT {name} {text!r} is empty or has one of {forbidden[:-1]}")
        if not 1 <= self.receive_maximum <= 65_535:
            raise SettingsError(f"MQTT receive maximum {self.receive_maximum} is not in 1..65535")
        if not self.client_id or self.session_expiry_s < 1:
            raise SettingsError("MQTT needs a client id and a session expiry above 0: without them a crash loses")
        self.address()

    def address(self) -> tuple[str, int, bool]:
        """Host, port, and whether TLS is spoken; `SettingsError` if the URL is none of ours."""
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError as error:
            raise SettingsError(f"MQTT URL {self.url!r}: {error}") from None
        if parts.scheme not in _PORTS or not parts.hostname or parts.username or parts.path.strip("/"):
            raise SettingsError(
                f"MQTT URL {self.url!r} is not mqtt://HOST[:PORT] or mqtts://HOST[:PORT];"
                " user and password have settings of their own"
            )
        return parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "mqtts"

    def tls(self) -> ssl.SSLContext | None:
        """The TLS context, where TLS is spoken; `SettingsError` if a file cannot be used."""
        if not self.address()[2]:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
            if self.cert_file is not None:
                context.load_cert_chain(self.cert_file, self.key_file)
        except OSError as error:
            raise SettingsError(f"MQTT TLS files: {error}") from error
        return context

    @property
    def filters(self) -> tuple[str, str]:
        """What is subscribed to: requests and feedback, shared within the group."""
        return f"$share/{self.group}/{self.prefix}/requests/#", f"$share/{self.group}/{self.feedback_topic}"

    @property
    def feedback_topic(self) -> str:
        """Where qualities come in."""
        return f"{self.prefix}/feedback"

    @property
    def cancel_topic(self) -> str:
        """Where senders take requests back."""
        return f"{self.prefix}/cancel"

    @property
    def verdict_topic(self) -> str:
        """Where those who are asked about an answer say whether it will do; each router has its own."""
        own = "".join("-" if char in "/+#\0" else char for char in self.client_id)
        return f"{self.prefix}/verdicts/{own}"

    @property
    def status_topic(self) -> str:
        """Where the state of the policy stands, as a retained message."""
        return f"{self.prefix}/policy/status"

    @property
    def dead_letter_topic(self) -> str:
        """Where messages go that nobody can be answered for."""
        return f"{self.prefix}/dead-letter"
