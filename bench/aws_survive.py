"""Is anything lost, or paid twice, when the router dies amid Bedrock streams? `python -m bench.aws_survive`

`router serve` in front of `router aws-double`, each in a process of its own, asked over MQTT v5 under request ids with
QoS 1: two of three requests for a stream, one for a whole answer, all of them open at once.

    crash    kill -9 while they are open, and a restart: who is answered, how often, what was called, and what it cost
    drain    SIGTERM while they are open, and requests that come meanwhile
    cancel   half of as many HTTP streams hang up, and then a tenth of as many that wait for whole answers

Two ledgers are compared. The double bills a stream that was cut off for what it had generated, and a whole answer in
full. Ours counts a completed call with the tokens that Bedrock reported; a cancelled stream with the tokens that came;
a cancelled whole answer with the length that its decision expected; and a call whose end is not in the decision log,
because a crash cut it off, with the cost that its decision expected. So, after a crash,

    ours = ended + expected(cut off)     the double's = ended + generated(cut off)

where `ended` are the calls whose end was logged; both sides agree on them to the last digit. A call that ended in the
last moments before the kill may be answered from the journal while its end is not logged: it stands among those cut off
in our ledger, once, and among the ended in the double's. One whose end is logged while its answer is not in the journal
yet is made again: it is among the cut-off calls that are counted, and its id has two ends in the log.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from bench.aws_stack import CLASS, LOOK_S, WAIT_S, Bill, Far, Sender, Served, broker, came, until, words

CUT = 'what="cut_call"'
SHORTEST = 0.5
"""Of the longest answer: lengths are spread from this share to all of it."""
STILL_S = 1.0
"""Books that do not change for so long are complete: the router writes them fifty times a second."""
DAY_S, LONGEST_S = 86_400.0, 180.0
LONG_ENOUGH_S = 0.6
"""Twice the double's time to its first token."""


class TooSlow(Exception):
    """This machine did not get all streams open, half of them hung up on, or its kill done, before others ended: give
    the answers longer gaps."""


class Stack(NamedTuple):
    """Everything that runs, and the ids with the tokens that each is to have."""

    far: Far
    served: Served
    sender: Sender
    asked: dict[str, int]

    def ask(self, tokens: dict[str, int]) -> None:
        """Publish these; every third wants its answer whole."""
        for number, (name, most) in enumerate(tokens.items()):
            self.sender.ask(name, most, stream=number % 3 != 2)
        self.asked.update(tokens)

    def open_all(self) -> None:
        """Wait until every call that is not answered is open at the double, and streams have begun to come."""
        asked = len(self.asked)
        until(lambda: self.far.state()["serving"] + self.sender.answered() >= asked, f"{asked} calls at the double")
        until(lambda: self.sender.begun() >= asked // 3, "pieces of a third of the requests")

    def all_answered(self) -> None:
        """Wait until every id has an answer, or an error."""
        until(lambda: self.sender.answered() >= len(self.asked), "an answer to every request")


@contextmanager
def stack(tokens: int, gap_s: float) -> Iterator[Stack]:
    """Started, and stopped at the end; not over midnight, as the ledger is of a day."""
    left_s = DAY_S - time.time() % DAY_S
    if left_s < LONGEST_S:
        time.sleep(left_s + 1.0)
    with ExitStack() as held:
        folder = Path(held.enter_context(tempfile.TemporaryDirectory(prefix="aws-survive-")))
        port = held.enter_context(broker(folder))
        far = Far(folder, tokens, gap_s)
        held.callback(far.stop)
        served = Served(folder, port, far.url)
        held.callback(served.stop)
        sender = Sender(port)
        held.callback(sender.close)
        yield Stack(far, served, sender, {})


def lengths(prefix: str, count: int, tokens: int) -> dict[str, int]:
    """Ids, and how long the answer of each is to be."""
    least = round(tokens * SHORTEST)
    return {f"{prefix}-{number}": least + number * 7 % (tokens - least + 1) for number in range(count)}


def crash(requests: int, *, tokens: int, gap_s: float, kills: int = 1, after: float = 0.0) -> dict[str, Any]:
    """Kill it that often, each time with all that are left open, or once a share `after` of all has been answered."""
    with stack(tokens, gap_s) as run:
        run.ask(lengths("crash", requests, tokens))
        run.open_all()
        counted = 0.0
        generated: list[Bill] = []
        for life in range(kills):
            if life:
                run.open_all()
            until(lambda: run.sender.answered() >= after * requests, "the first answers")
            counted += run.served.metric("router_ingress_events_total", CUT)
            killed_at = run.served.kill()
            until(lambda: run.far.state()["serving"] == 0, "the double's connections gone")
            before = run.far.bills()
            cut = [bill for bill in before if bill.at >= killed_at]
            if not cut:
                raise TooSlow
            generated += cut
            run.served.start()
        run.all_answered()
        return _after_crash(run, int(counted), generated, len(before))


def _after_crash(run: Stack, counted: int, generated: list[Bill], bills_before: int) -> dict[str, Any]:
    """What became of them. The last life's counter of dollars is held against the bills of that life alone."""
    _settle(run)
    bills, logged = run.far.bills(), run.served.logged()
    cut = counted + int(run.served.metric("router_ingress_events_total", CUT))
    ended = [one for one in logged if one.outcome is not None]
    completed = Counter(one.decision.request_id for one in ended if one.outcome and one.outcome.status == "completed")
    cut_off = [one for one in logged if one.outcome is None and not one.attempts]
    terms = [c.terms for one in cut_off for c in one.decision.candidates if c.deployment == one.decision.chosen]
    calls, spent, reserved = len(run.far.state()["calls"]), *run.served.ledger_usd()
    return _answers(run) | {
        "calls at the double": calls,
        "cut-off calls counted": cut,
        "answered, end not logged": len(cut_off) - cut,
        "called though answered": max(calls - len(run.asked) - cut, 0),
        "paid twice": max(completed.total() - len(completed) - cut, 0),
        "our USD": spent + reserved,
        "ended, our USD": sum(one.outcome.cost_usd for one in ended if one.outcome),
        "cut off, our USD (expected)": sum(one.cost_usd for one in terms),
        "the double's USD": sum(bill.usd for bill in bills),
        "ended, the double's USD": sum(bill.usd for bill in bills) - sum(bill.usd for bill in generated),
        "cut off, the double's USD (generated)": sum(bill.usd for bill in generated),
        "last life, our USD": run.served.metric("router_spend_usd_total"),
        "last life, the double's USD": sum(bill.usd for bill in bills[bills_before:]),
    }


def drain(requests: int, *, tokens: int, gap_s: float) -> dict[str, Any]:
    """SIGTERM with all open; a tenth more come while it drains, for its successor."""
    with stack(tokens, gap_s) as run:
        run.ask(lengths("drain", requests, tokens))
        run.open_all()
        began = time.monotonic()
        run.served.terminate()
        until(lambda: not run.served.is_ready(), "the door to close")
        run.ask(lengths("late", requests // 10, tokens))
        status, took_s = run.served.ended(), time.monotonic() - began
        came(lambda: run.sender.answered() >= requests)
        found = {"exit status": status, "drained in s": round(took_s, 2), "answered by then": run.sender.answered()}
        run.served.start()
        run.all_answered()
        _settle(run)
        bills = run.far.bills()
        return (
            found
            | _answers(run)
            | {
                "calls at the double": len(run.far.state()["calls"]),
                "cut-off calls counted": int(run.served.metric("router_ingress_events_total", CUT)),
                "our USD": run.served.ledger_usd()[0],
                "the double's USD": sum(bill.usd for bill in bills),
            }
        )


def cancel(requests: int, *, tokens: int, gap_s: float) -> dict[str, Any]:
    """Every second of them hangs up in mid-stream."""
    with stack(tokens, gap_s) as run:
        streams = asyncio.run(_hang_up(run, requests, tokens))
        _settle(run)
        bills = run.far.bills()
        logged = run.served.logged()
        outcomes = [one.outcome for one in logged if one.outcome is not None]
        gone = [call for one in logged for call in one.attempts if call.ending == "cancelled"]
        cut = [bill for bill in bills if bill.output_tokens < tokens]
        whole = _hang_up_whole(run, max(requests // 10, 1), tokens)
        return streams | {
            "booked as cancelled": len(gone),
            "billed in part": len(cut),
            "their tokens, ours": sum(one.output_tokens for one in gone),
            "their tokens, the double's": sum(bill.output_tokens for bill in cut),
            "their input tokens, ours (estimated)": sum(
                one.decision.input_tokens for one in logged for call in one.attempts if call.ending == "cancelled"
            ),
            "their input tokens, the double's": sum(bill.input_tokens for bill in cut),
            "their USD, ours": sum(one.cost_usd for one in gone),
            "their USD, the double's": sum(bill.usd for bill in cut),
            "the others' USD, ours": sum(one.cost_usd for one in outcomes if one.status == "completed"),
            "the others' USD, the double's": sum(bill.usd for bill in bills if bill.output_tokens == tokens),
            **whole,
            "our USD": run.served.ledger_usd()[0],
            "spend counter, USD": run.served.metric("router_spend_usd_total"),
        }


def _hang_up_whole(run: Stack, requests: int, tokens: int) -> dict[str, Any]:
    """Ask for whole answers and leave before they are complete: what either ledger has more then."""
    bills = run.far.bills()
    ours, theirs = run.served.ledger_usd()[0], sum(bill.usd for bill in bills)

    async def ask() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
            body = _body(tokens, stream=False)
            waiting = [asyncio.ensure_future(http.post(_chat(run), json=body)) for _ in range(requests)]
            while (state := await asyncio.to_thread(run.far.state))["serving"] < requests:
                if len(state["bills"]) > len(bills):
                    raise TooSlow
                await asyncio.sleep(LOOK_S)
            await asyncio.sleep(LONG_ENOUGH_S)
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(ask())
    _settle(run)
    return {
        "whole answers hung up on": requests,
        "of whole answers, our USD (expected)": run.served.ledger_usd()[0] - ours,
        "of whole answers, the double's USD": sum(bill.usd for bill in run.far.bills()) - theirs,
    }


def _chat(run: Stack) -> str:
    return f"{run.served.url}/v1/chat/completions"


def _body(tokens: int, *, stream: bool) -> dict[str, Any]:
    said = [{"role": "user", "content": "Say all the words"}]
    return {"model": CLASS, "stream": stream, "max_tokens": tokens, "messages": said}


async def _hang_up(run: Stack, requests: int, tokens: int) -> dict[str, Any]:
    """Open streams, end every second after its first words, read the others to the end."""
    begun = [asyncio.Event() for _ in range(requests)]

    async def read(number: int) -> bool:
        async with http.post(_chat(run), json=_body(tokens, stream=True)) as answer:
            heard = b""
            async for line in answer.content:
                heard += line
                if b"word1" in heard:
                    begun[number].set()
            return f"word{tokens - 1}".encode() in heard

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        readers = [asyncio.create_task(read(number)) for number in range(requests)]
        async with asyncio.timeout(WAIT_S):
            await asyncio.gather(*(one.wait() for one in begun))
        were_open = run.far.state()["serving"]
        since = time.monotonic()
        for reader in readers[::2]:
            reader.cancel()
        left = len(readers[1::2])
        while await asyncio.to_thread(lambda: run.far.state()["serving"]) > left:
            await asyncio.sleep(LOOK_S)
            if time.monotonic() - since > WAIT_S:
                break
        freed_s = time.monotonic() - since
        are_open = (await asyncio.to_thread(run.far.state))["serving"]
        if were_open < requests or are_open < left:
            raise TooSlow
        whole = await asyncio.gather(*readers[1::2])
    return {
        "streams": requests,
        "open at the double": were_open,
        "hung up": len(readers[::2]),
        "open after that": are_open,
        "freed in s": round(freed_s, 2),
        "answered in full": sum(whole),
    }


def _settle(run: Stack) -> None:
    """Wait until nothing is open, and all of it is in the books."""
    until(lambda: run.far.state()["serving"] == 0, "the double's calls ended")
    until(lambda: run.served.ledger_usd()[1] == 0.0, "nothing reserved any more")
    until(lambda: _is_still(run), "the books at rest")


def _is_still(run: Stack) -> bool:
    before = _books(run)
    time.sleep(STILL_S)
    return _books(run) == before


def _books(run: Stack) -> tuple[float, int]:
    told = sum(one.outcome is not None for one in run.served.logged())
    return run.served.metric("router_spend_usd_total"), told


def _answers(run: Stack) -> dict[str, Any]:
    finals = run.sender.finals
    right = sum(finals[name][0].text == words(most) for name, most in run.asked.items() if name in finals)
    return {
        "published": len(run.asked),
        "answered": sum(told[0].code is None for told in finals.values()),
        "answered in full": right,
        "reported": sum(told[0].code is not None for told in finals.values()),
        "answered twice": sum(len({one.content for one in told}) > 1 for told in finals.values()),
        "delivered again": sum(len(told) > 1 for told in finals.values()),
    }


def main() -> None:
    """Parse the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="crash, drain, cancel; all of them unless named")
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--kills", type=int, default=1)
    parser.add_argument("--after", type=float, default=0.0, help="share of the requests answered when the kill comes")
    parser.add_argument("--tokens", type=int, default=60, help="of the longest answer")
    parser.add_argument("--gap-s", type=float, default=0.1, help="between two tokens")
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    args = parser.parse_args()
    unknown = set(args.what) - {"crash", "drain", "cancel"}
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: crash, drain or cancel")
    speed = {"tokens": args.tokens, "gap_s": args.gap_s}
    found: dict[str, dict[str, Any]] = {}
    for what in args.what or ("crash", "drain", "cancel"):
        if what == "crash":
            found[what] = crash(args.requests, kills=args.kills, after=args.after, **speed)
        else:
            found[what] = {"drain": drain, "cancel": cancel}[what](args.requests, **speed)
        print(f"{what}")
        for name, value in found[what].items():
            print(f"  {name:40} {value:.9f}" if "USD" in name else f"  {name:40} {value}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1), "utf-8")


if __name__ == "__main__":
    main()
