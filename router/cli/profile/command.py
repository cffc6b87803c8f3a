"""`router profile`: a load test of one deployment, through its own backend."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from pathlib import Path
from random import Random

import typer
from msgspec import Struct

from router.cli.decision_view import wide_console
from router.cli.policy.attempt import write_json
from router.cli.profile import options as o
from router.cli.profile.live import Live
from router.cli.profile.page import profile_page
from router.cli.profile.target import backend_of, find_deployment, levels_of, read_prompts
from router.cli.profile.told import Asking, Spent, Told, told_of
from router.cli.profile.view import profile_view
from router.cli.profile.written import record, store
from router.cli.report.write import save, spelled, today
from router.domain.deployment import Deployment, Kind
from router.domain.errors import RouterError
from router.learning.profiling.calls import Level
from router.runtime.clock import RealClock
from router.runtime.profiling.calls import Caller
from router.runtime.profiling.prompts import Asked, file_prompts, made_prompts
from router.runtime.profiling.purse import Purse
from router.runtime.profiling.users import LoadTest, Plan
from router.runtime.reload import load_directory
from router.settings import load_settings

_CUT = 130
"""Exit status after Ctrl-C."""


def profile(
    context: typer.Context,
    deployment: o.Name,
    *,
    policies: o.Policies = None,
    concurrency: o.Concurrency = "1,2,4,8,16",
    requests: o.Requests = None,
    for_: o.For = None,
    warm_up: o.WarmUp = 1,
    timeout: o.Timeout = 120.0,
    prompts: o.Prompts = None,
    input_tokens: o.InputTokens = 500,
    output_tokens: o.OutputTokens = 128,
    same_prompt: o.SamePrompt = False,
    seed: o.Seed = 0,
    max_usd: o.MaxUsd = None,
    json_: o.JsonPath = None,
    report: o.ReportPath = None,
    store_: o.Store = False,
) -> None:
    """Call one deployment with more and more users at once, and say how it answers and what that costs.

    Shown are the metrics of SageMaker's evaluation of optimised models, by their names, for any backend: time to first
    token, inter-token latency, client latency, tokens a second, errors, price per million tokens. Out of them comes
    what a step of the server costs, as `step_ms` (or `batch_ms`) to put into the policy: then the router knows from the
    first request on how long the deployment takes. **Real deployments are really called and paid.**

    Examples:

        router profile small --concurrency 1,2,4,8,16 --max-usd 0.50 --report small.html

        router profile haiku --prompts mine.jsonl --output-tokens 200 --for 30 --json haiku.json --store

        router profile scorer --concurrency 1,8,32 : sizes of batches, where the deployment takes batches

    A user sends the next call when the last has ended. Prompts and bounds of made-up calls vary by half, and no two
    begin alike, so that no prompt cache helps. A level ends early when more than half of its calls fail. Ctrl-C ends
    the test and shows what there is. Exit status: 0, 1 when no call went well, 130 after Ctrl-C.
    """
    _check(requests, for_, json_, report)
    settings = load_settings()
    found = find_deployment(load_directory(policies or settings.policies), deployment)
    plan = Plan(levels_of(concurrency, found), requests, for_, warm_up)
    asked, said = _asked(prompts, Random(seed), input_tokens, output_tokens, same=same_prompt)
    asking = Asking(said, same_prompt, today(), spelled(context))
    told = asyncio.run(_test(_Test(found, plan, timeout, max_usd), asked, asking))
    wide_console().print(profile_view(told))
    _write(told, json_, report, settings.state_dir if store_ else None)
    if told.asking.is_cut:
        raise typer.Exit(_CUT)
    if not told.answers:
        raise typer.Exit(1)


class _Test(Struct, frozen=True):
    deployment: Deployment
    plan: Plan
    patience_s: float
    most_usd: float | None


def _check(requests: int | None, for_: float | None, *outputs: Path | None) -> None:
    if requests is not None and for_ is not None:
        raise RouterError("--requests and --for both say how long a level lasts: keep one")
    for path in outputs:
        if path is not None and not path.parent.is_dir():
            raise RouterError(f"{path}: there is no directory {path.parent}")


def _asked(
    path: Path | None, rng: Random, input_tokens: int, output_tokens: int, *, same: bool
) -> tuple[Iterator[Asked], str]:
    """The prompts, and what they are in words."""
    if path is None:
        made = made_prompts(rng, input_tokens=input_tokens, output_tokens=output_tokens, same=same)
        varied = "always the same" if same else "half more or less"
        return made, f"made up, about {input_tokens} tokens in and at most {output_tokens} out, {varied}"
    bodies = read_prompts(path)
    marked = "as they are" if same else "each with a beginning of its own"
    return file_prompts(rng, bodies, output_tokens=output_tokens, same=same), f"{len(bodies)} of {path.name}, {marked}"


async def _test(test: _Test, asked: Iterator[Asked], asking: Asking) -> Told:
    """Run it to its end, or to Ctrl-C."""
    deployment, clock = test.deployment, RealClock()
    purse, backend = Purse(deployment, test.most_usd), backend_of(deployment)
    caller = Caller(backend, deployment, clock, patience_s=test.patience_s)
    users = 1 if deployment.kind is Kind.BATCH else None
    with Live(test.plan, users, purse) as live:
        load_test = LoadTest(caller, asked, purse, clock, live.seen)
        is_cut = await _until_cut(load_test, test.plan)
    await backend.close()
    levels: list[Level] = load_test.levels
    spent = Spent(purse.spent_usd, purse.cut_off_usd, test.most_usd)
    cut = Asking(asking.prompts, asking.are_alike, asking.date, asking.command, is_cut)
    return told_of(deployment, levels, spent, cut)


async def _until_cut(load_test: LoadTest, plan: Plan) -> bool:
    """Whether Ctrl-C came before the end."""
    loop = asyncio.get_running_loop()
    running = loop.create_task(load_test.run(plan))
    loop.add_signal_handler(signal.SIGINT, running.cancel)
    try:
        await running
    except asyncio.CancelledError:
        return True
    finally:
        loop.remove_signal_handler(signal.SIGINT)
    return False


def _write(told: Told, json_: Path | None, report: Path | None, state_dir: Path | None) -> None:
    if json_ is not None:
        write_json(json_, record(told))
    if report is not None:
        save(report, profile_page(told))
        typer.echo(f"report in {report}")
    if state_dir is not None:
        typer.echo(f"stored in {store(told, state_dir)}")
