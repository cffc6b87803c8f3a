"""What every test may rely on: examples that are the same in every run, and an environment that steers nothing.

`make test ARGS=--hypothesis-profile=default` draws fresh examples instead.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
PAINTERS = ("FORCE_COLOR", "PY_COLORS", "NO_COLOR", "GITHUB_ACTIONS", "COLUMNS", "LINES", "TTY_COMPATIBLE")
"""What colours and wraps the output of a command."""

settings.load_profile("ci")


def _steers(name: str) -> bool:
    """Whether the variable tells the router, the SDK, a client or git where to go, or a command how to look."""
    return name.startswith(("ROUTER_", "AWS_", "OPENAI_", "GIT_")) or name.lower() in PROXIES or name in PAINTERS


for _name in filter(_steers, tuple(os.environ)):
    del os.environ[_name]
os.environ |= {"NO_PROXY": "*", "AWS_EC2_METADATA_DISABLED": "true"}
os.environ |= dict.fromkeys(("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"), os.devnull)
os.environ |= dict.fromkeys(("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"), os.devnull)


@pytest.fixture
def as_before() -> Iterator[None]:
    """Logging as it was: a router sets it up for its process."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
