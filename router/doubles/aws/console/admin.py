"""The route that looks into a running double and orders it about: `/_double/state`.

GET gives what was called and billed, the faults and the quotas. POST takes any of `faults` (a list, replacing the
present ones), `provisioned` (ARN -> status), `cold: true` (every model has to be loaded again), `reset: true` (forget
calls and bills).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from aiohttp import web
from msgspec import Struct

from router.doubles.aws.faults import Fault
from router.doubles.aws.world import World

ADMIN_PATH = "/_double/state"


class _Order(Struct, frozen=True, forbid_unknown_fields=True):
    faults: list[Fault] | None = None
    provisioned: dict[str, str] | None = None
    cold: bool = False
    reset: bool = False


async def answer_admin(world: World, request: web.BaseRequest) -> web.Response:
    """Look (GET) or change (POST); both answer with the state."""
    if request.method == "POST":
        try:
            order = msgspec.json.decode(await request.read(), type=_Order)
        except msgspec.DecodeError as error:
            return _json({"message": f"this order is not understood: {error}"}, 400)
        unknown = sorted(set(order.provisioned or {}) - set(world.provisioned))
        if unknown:
            return _json({"message": f"no such provisioned throughput: {unknown}"}, 404)
        _obey(world, order)
    elif request.method != "GET":
        return _json({"message": "GET or POST"}, 405)
    return _json(state(world))


def _obey(world: World, order: _Order) -> None:
    if order.faults is not None:
        world.faults[:] = order.faults
    for arn, status in (order.provisioned or {}).items():
        world.provisioned[arn].status = status
    if order.cold:
        world.warm_until.clear()
    if order.reset:
        world.calls.clear()
        world.bills.clear()
        world.refusals.clear()


def state(world: World) -> dict[str, Any]:
    """What may be seen of a world. Parameters of calls, which hold prompts, may not."""
    return {
        "calls": [
            {"service": call.service, "operation": call.operation, "region": call.region, "account": call.account}
            for call in world.calls
        ],
        "bills": [msgspec.to_builtins(bill) for bill in world.bills],
        "refused": dict(Counter(one.code for one in world.refusals)),
        "usd": sum(bill.usd for bill in world.bills),
        "serving": world.serving,
        "faults": [msgspec.to_builtins(fault) for fault in world.faults],
        "provisioned": {arn: held.status for arn, held in world.provisioned.items()},
        "drift": list(world.drift),
    }


def _json(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(body), status=status, content_type="application/json")
