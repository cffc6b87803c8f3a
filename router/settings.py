"""How is this process set up? From the environment and a `.env` file; policies say the rest.

Every variable starts with `ROUTER_`, and a double underscore goes one level down: `ROUTER_MQTT__URL`. What is
wrong is said for all variables at once, by the name that stands in the environment, and never with its value.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableVariable

from router.domain.errors import SettingsError

PREFIX = "ROUTER_"
NESTED = "__"
OF_COMMANDS = frozenset({"ROUTER_API_KEY", "ROUTER_ADMIN_KEY"})
"""Variables that commands read to ask a running router: no settings, not mistakes."""
_KUBERNETES = re.compile(r"ROUTER\w*_(SERVICE_(HOST|PORT\w*)|PORT_\d+_(TCP|UDP)\w*)=.*|ROUTER\w*_PORT=(tcp|udp)://.*")
"""Variables that Kubernetes sets for a Service whose name begins with `router`: not ours, not mistakes."""


class LogLevel(StrEnum):
    """From which severity on lines are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(StrEnum):
    """`auto` is text on a terminal and JSON elsewhere."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"


def _broker_url(url: str) -> str:
    """Empty, or mqtt(s)://host[:port] without anything secret in it."""
    if not url:
        return url
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("mqtt", "mqtts") and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("not an address of the form mqtt://HOST[:PORT] or mqtts://HOST[:PORT]")
    if parts.username or parts.password:
        raise ValueError(
            "holds a user or password: put them in ROUTER_MQTT__USERNAME and ROUTER_MQTT__PASSWORD instead"
        )
    return url


def _topic_level(text: str) -> str:
    if not text or any(c in text for c in "+#\0") or text.strip("/") != text:
        raise ValueError("must be part of a topic: not empty, no `+` or `#`, no slash at either end")
    return text


def _group(text: str) -> str:
    if "/" in text:
        raise ValueError("must not hold a slash")
    return _topic_level(text)


def _present(path: Path | None) -> Path | None:
    if path is not None and not path.is_file():
        raise ValueError("there is no such file")
    return path


def _separated(value: Any) -> Any:
    """Keys in one variable are separated by commas."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        raise ValueError("write the keys with commas between them, without brackets and quotes")
    keys = [key for key in (part.strip() for part in value.split(",")) if key]
    if value.strip() and not keys:
        raise ValueError("holds no key, which would admit everyone")
    return keys


def _nothing_if_empty(value: Any) -> Any:
    return None if value == "" else value


def _default_client_id() -> str:
    """Stable over restarts of one machine, different between machines."""
    return f"router-{socket.gethostname()}"


PresentFile = Annotated[Path | None, BeforeValidator(_nothing_if_empty), AfterValidator(_present)]


class _Group(BaseModel):
    """Base of the nested settings."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class MqttSettings(_Group):
    """The broker that requests come from."""

    url: Annotated[str, AfterValidator(_broker_url)] = ""
    """mqtt://HOST:1883 or mqtts://HOST:8883; empty turns MQTT off."""
    username: Annotated[str | None, BeforeValidator(_nothing_if_empty)] = None
    """User at the broker."""
    password: SecretStr | None = None
    """Password at the broker."""
    ca_file: PresentFile = None
    """File of the certificate authority to trust; absent means the system's."""
    cert_file: PresentFile = None
    """Client certificate, where the broker asks for one."""
    key_file: PresentFile = None
    """Key of the client certificate."""
    client_id: Annotated[str, Field(min_length=1, max_length=128)] = Field(default_factory=_default_client_id)
    """Stable and unique name at the broker: unanswered messages wait under it while the router is down."""
    group: Annotated[str, AfterValidator(_group)] = "routers"
    """Shared subscription group: routers of one group share the requests."""
    prefix: Annotated[str, AfterValidator(_topic_level)] = "router"
    """First levels of the topics: PREFIX/requests/#, PREFIX/feedback, PREFIX/dead-letter."""
    callback_prefix: Annotated[str, AfterValidator(lambda text: text and _topic_level(text))] = ""
    """First levels of the topics that requests may name as `metadata.verify.callback`; empty: all but the router's."""
    receive_maximum: Annotated[int, Field(ge=1, le=65_535)] = 1024
    """Most requests taken in and not yet answered."""
    session_expiry_s: Annotated[int, Field(ge=1, le=2**32 - 1)] = 86_400
    """How long the broker keeps messages for a router that is away, in seconds."""
    retention_s: Annotated[float, Field(gt=0, le=30 * 86_400)] = 3600.0
    """How long a repeated request id is answered from the journal, in seconds."""
    keepalive_s: Annotated[int, Field(ge=1, le=65_535)] = 60
    """Seconds between signs of life to the broker."""

    @property
    def enabled(self) -> bool:
        """Whether there is a broker to connect to."""
        return bool(self.url)


class HttpSettings(_Group):
    """The OpenAI-compatible API."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for all, and then set keys."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8080
    """Port to listen on; 0 takes a free one."""
    api_keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_separated)] = ()
    """Keys that clients must show, separated by commas; none admits everyone."""
    admin_keys: Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_separated)] = ()
    """Keys of operators, separated by commas: they alone may read and change what was learned (/v1/learned), and read
    the policy in force and any decision (/v1/policy, /v1/decisions). Without any, /v1/learned is shut where there are
    other keys, where HOST is not loopback, or to what a proxy passes on, and the others are open to whoever may ask."""
    max_body_bytes: Annotated[int, Field(ge=1024, le=256 * 1024 * 1024)] = 4 * 1024 * 1024
    """Largest request body, over MQTT too."""


class LogSettings(_Group):
    """What is logged, and how."""

    level: LogLevel = LogLevel.INFO
    """From which severity on: debug, info, warning or error."""
    format: LogFormat = LogFormat.AUTO
    """json, text, or auto: text on a terminal and JSON elsewhere."""

    @property
    def as_json(self) -> bool | None:
        """Whether lines are JSON; `None` where the terminal decides."""
        return None if self.format is LogFormat.AUTO else self.format is LogFormat.JSON


class Settings(BaseSettings):
    """Everything the process is told from outside, besides its policies."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=NESTED,
        env_file_encoding="utf-8",
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )

    mqtt: MqttSettings = MqttSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()
    policies: Path = Path("policies")
    """Directory of the policies."""
    state_dir: Path = Path("state")
    """Directory for the journal, the checkpoint, the decision log and the history of policy changes."""
    artefact: PresentFile = None
    """Trained estimator, as `router train` writes it; absent means the built-in prior."""
    seed: Annotated[int | None, BeforeValidator(_nothing_if_empty)] = None
    """Seed of exploration, for runs that must repeat; absent means a fresh one."""
    history_entries: Annotated[int, Field(ge=1, le=10_000_000)] = 10_000
    """How many changes `router policy history` keeps: edits and rollouts, and again as many limits and prices."""


def load_settings(env_file: Path | None = Path(".env"), **overrides: Any) -> Settings:
    """Settings from the environment over `env_file` (which may be absent); `overrides` win over both.

    Raises `SettingsError` with one line for each variable that cannot be used.
    """
    problems: list[str] = []
    settings: Settings | None = None
    try:
        written = {**_dotenv(env_file), **os.environ}
        problems += _misspelt(written)
        settings = Settings(_env_file=env_file, **overrides)  # type: ignore[call-arg]  # taken by BaseSettings
    except ValidationError as error:
        problems += [_problem(tuple(e["loc"]), e["msg"]) for e in error.errors(include_input=False)]
    except UnreadableVariable as error:
        problems.append(_unreadable(str(error)))
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{env_file}: cannot be read: {error}")
    if settings is None or problems:
        raise SettingsError("\n".join(dict.fromkeys(problems)))
    return settings


def check_to_serve(settings: Settings, env_file: Path | None) -> None:
    """Raises `SettingsError` where a key was meant for a router's own and stands under the name that commands read:
    it would admit everyone."""
    written = {**_dotenv(env_file), **os.environ}
    misplaced = sorted(name for name in OF_COMMANDS if written.get(name))
    if misplaced and not (settings.http.api_keys or settings.http.admin_keys):
        own = " and ".join(f"{PREFIX}HTTP{NESTED}{name.removeprefix(PREFIX)}S" for name in misplaced)
        raise SettingsError(
            f"{' and '.join(misplaced)}: only commands that ask a running router read this, and this one would admit "
            f"everyone. Set {own} to guard it, or unset this"
        )


def variables() -> dict[str, str]:
    """Every variable with what it means."""
    return {name: field.description or "" for name, field in _fields(Settings)}


def _fields(model: type[BaseModel], prefix: str = PREFIX) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from _fields(nested, f"{prefix}{name.upper()}{NESTED}")
        else:
            yield f"{prefix}{name.upper()}", field


def _dotenv(env_file: Path | None) -> Mapping[str, str | None]:
    return dotenv_values(env_file, encoding="utf-8") if env_file is not None and env_file.is_file() else {}


def _misspelt(written: Mapping[str, str | None]) -> list[str]:
    """Variables that look like one of ours but are none: a setting that silently does nothing is a trap."""
    known = variables()
    groups = {name.rsplit(NESTED, 1)[0] for name in known if NESTED in name}
    problems = []
    for name, value in sorted((n.upper(), v) for n, v in written.items() if n.upper().startswith(PREFIX)):
        if name in known or name in groups or name in OF_COMMANDS or _KUBERNETES.fullmatch(f"{name}={value}"):
            continue
        close = get_close_matches(name, known, n=1, cutoff=0.75)
        if close:
            problems.append(f"{name}: no such setting, did you mean {close[0]}?")
    return problems


def _problem(loc: tuple[int | str, ...], message: str) -> str:
    """`ROUTER_HTTP__PORT: what is wrong; what to write`."""
    known = variables()
    parts = [str(step).upper() for step in loc if isinstance(step, str)]
    name = PREFIX + NESTED.join(parts)
    name = next((n for n in (PREFIX + NESTED.join(parts[:k]) for k in range(len(parts), 0, -1)) if n in known), name)
    said = message.removeprefix("Value error, ").replace("Input should", "must").replace("String should", "must")
    if said.startswith("Extra inputs"):
        close = get_close_matches(name, known, n=1, cutoff=0.6)
        return f"{name}: no such setting{f', did you mean {close[0]}?' if close else ''}"
    return f"{name}: {said}{f' ({known[name]})' if name in known else ''}"


def _unreadable(message: str) -> str:
    """pydantic-settings names the field in quotes when a group is set as a whole and is not JSON."""
    found = re.search(r'"(\w+)"', message)
    name = PREFIX + found[1].upper() if found else PREFIX + "*"
    return f"{name}: is a group of settings: set {name}{NESTED}... one by one"
