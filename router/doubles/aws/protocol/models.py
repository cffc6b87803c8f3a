"""The service models, and the operation that a request is for."""

from __future__ import annotations

import re
from functools import cache
from typing import Any
from urllib.parse import unquote

from botocore.loaders import Loader
from botocore.model import OperationModel, ServiceModel
from botocore.session import Session

from router import backends

_PLACE = re.compile(r"\\{(\w+)(\\\+)?\\}")


@cache
def service_model(service: str) -> ServiceModel:
    """The service as the installed botocore knows it, with the shapes that this project lays over it."""
    loader: Loader = Session().get_component("data_loader")
    loader.search_paths[:0] = [f"{folder}/aws/overlay" for folder in backends.__path__]
    return ServiceModel(loader.load_service_model(service, "service-2"), service)


@cache
def _paths(service: str) -> list[tuple[str, re.Pattern[str], str]]:
    """(method, path, operation), the path with most fixed letters first."""
    model = service_model(service)
    rows = []
    for name in model.operation_names:
        http = model.operation_model(name).http
        path = re.escape(http["requestUri"].partition("?")[0])
        pattern = _PLACE.sub(lambda place: f"(?P<{place[1]}>{'.+' if place[2] else '[^/]+'})", path)
        rows.append((len(_PLACE.sub("", path)), http["method"], re.compile(pattern), name))
    rows.sort(key=lambda row: -row[0])
    return [row[1:] for row in rows]


def find_operation(
    service: str, method: str, path: str, target: str | None, action: str | None
) -> tuple[OperationModel, dict[str, Any]] | None:
    """The operation and the values in its path. `target` is the header `X-Amz-Target`, `action` the form field of
    services that take forms."""
    model = service_model(service)
    name, places = None, {}
    if model.metadata["protocol"] == "json":
        prefix, _, asked = (target or "").rpartition(".")
        name = asked if prefix == model.metadata["targetPrefix"] else None
    elif model.metadata["protocol"] == "query":
        name = action
    else:
        for verb, pattern, operation in _paths(service):
            found = pattern.fullmatch(path) if verb == method else None
            if found is not None:
                name, places = operation, {key: unquote(value) for key, value in found.groupdict().items()}
                break
    if name is None or name not in model.operation_names:
        return None
    return model.operation_model(name), places
