"""`router capacity`: logs and traces in, an advice, a plan and a page out; and what it says when it cannot."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from random import Random

import msgspec
import pytest
from typer.testing import CliRunner, Result

from bench.traffic import policy, request_events
from router.cli.capacity import capacity
from router.domain.errors import RouterError
from router.domain.events import RequestEnded
from router.sim.capacity.calls import read_log
from router.sim.capacity.days import WEEK
from router.sim.capacity.plan import read_plan
from router.storage.decision_log import DecisionLog
from router.storage.decision_records import decision_folder

RUNNER = CliRunner(env={"COLUMNS": "160", "NO_COLOR": "1"})
MONDAY = 1_704_067_200.0
FLAGS = ["--unit-input", "1000", "--unit-output", "1000", "--on-demand-input", "1", "--on-demand-output", "1"]
FLEET = """
deployments:
  - {name: small, model: llama-3.1-8b, tier: small, backend: simulated, price_usd_per_mtok: {input: 1, output: 1}}
  - {name: large, model: llama-3.1-70b, tier: large, backend: simulated}
  - {name: reserved, model: llama-3.1-70b, tier: large, backend: simulated, kind: provisioned,
     tokens_per_min: {input: 4000, output: 4000}, hourly_usd: 0.16}
prices: {models: {llama-3.1-70b: {input: 1, output: 1}}}
"""


def trace(path: Path, hours: int, *, calls: int = 10, tokens: int = 300) -> Path:
    """So many calls a minute, alike."""
    rows = [f"{m * 60 + c * 60 / calls},{tokens},0" for m in range(hours * 60) for c in range(calls)]
    text = "\n".join(["arrival_s,input_tokens,output_tokens", *rows, f"{hours * 3600},1,0"]) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def ended(number: int, at: float, **changes: object) -> RequestEnded:
    """An answer of the large model that took half a second."""
    event = next(e for e in request_events(number, Random(number), policy()) if isinstance(e, RequestEnded))
    told = {"model": "llama-3.1-70b", "at": at + 0.5, "e2e_s": 0.5, "input_tokens": 300, "output_tokens": 10, **changes}
    return msgspec.structs.replace(event, **told)


def write_log(state: Path, events: list[RequestEnded], *, max_bytes: int = 64 << 20) -> Path:
    """As the daemon writes it, batch by batch, rotated when it has grown enough."""
    log = DecisionLog(decision_folder(state), max_bytes=max_bytes, keep=1000)
    handlers = log.handlers()
    for number, event in enumerate(events):
        handlers[RequestEnded](event)
        if number % 50 == 49:
            log.flush()
    log.close()
    return state


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a policy of one reserved deployment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "fleet.yaml").write_text(FLEET)
    return tmp_path


def run(*arguments: object) -> Result:
    return RUNNER.invoke(capacity, ["advise", *map(str, arguments)])


def refused(*arguments: object) -> str:
    """What it says when it gives no advice."""
    result = run(*arguments)
    assert isinstance(result.exception, RouterError)
    return str(result.exception)


def test_a_trace_gives_advice_plan_page_and_figures(place: Path) -> None:
    """3,000 tokens a minute at half the on-demand price: three units, half saved, and the same in every output."""
    day = trace(place / "two_days.csv.gz", 48)
    outputs = ("--plan", "plan.yaml", "--report", "advice.html", "--json", "out.json", "--date", "2026-03-31")
    result = run("--trace", day, "--model", "m", *FLAGS, "--hourly-usd", 0.03, *outputs)
    assert result.exit_code == 0, result.output
    for part in (
        "Hold 3 units for m",
        "<- least",
        "saves 50.0%",
        "Nothing was bought or changed",
        "use on: 50% (none)",
    ):
        assert part in result.output
    plan = read_plan("plan.yaml", (place / "plan.yaml").read_text())
    assert {plan.units_at(day, hour) for day in WEEK for hour in range(24)} == {3}
    assert (plan.model, plan.input.calls, plan.made_on) == ("m", 48 * 600, "2026-03-31")
    figures = json.loads((place / "out.json").read_text())
    assert figures["advice"]["held"][0]["units"]["mean"] == 3
    page = (place / "advice.html").read_text()
    assert page.count("<svg") >= 3
    assert "http" not in page.replace("http-equiv", "")
    assert "router capacity advise --trace" in page


def test_the_policy_tells_unit_and_prices(place: Path) -> None:
    """Its provisioned deployment is the unit, or so many of them; the price list stands in for on demand."""
    day = trace(place / "day.csv", 24)
    assert run("--trace", day, "--plan", "one.yaml").exit_code == 0
    assert (
        run("--trace", day, "--deployment", "reserved", "--deployment-units", 4, "--plan", "four.yaml").exit_code == 0
    )
    one, four = (read_plan(n, (place / n).read_text()) for n in ("one.yaml", "four.yaml"))
    assert (one.deployment, one.model, one.unit.input) == ("reserved", "llama-3.1-70b", 4000)
    assert (four.unit.input, four.purchases[0].units, four.purchases[0].hourly_usd) == (1000, 3, 0.04)
    assert one.assumptions.on_demand_usd_per_mtok.input == 1


@pytest.mark.parametrize(
    "model", ["llama-3.1-70b", "meta.llama3-1-70b-instruct-v1:0", "us.meta.llama3-1-70b-instruct-v1:0"]
)
def test_a_model_without_a_deployment_on_demand_has_the_shipped_price(place: Path, model: str) -> None:
    """Under the short name that policies use as well as under Bedrock's; a price that the policy writes comes first."""
    fleet = (place / "policies" / "fleet.yaml").read_text()
    alone = "\n".join(line for line in fleet.splitlines() if "name: large" not in line and "prices:" not in line)
    paid = []
    for text in (alone, alone + f"\nprices: {{models: {{'{model}': {{input: 3, output: 3}}}}}}\n"):
        (place / "policies" / "fleet.yaml").write_text(text)
        flags = ("--unit-input", 1000, "--unit-output", 1000, "--hourly-usd", 0.03, "--plan", "plan.yaml")
        result = run("--trace", trace(place / "day.csv", 24), "--model", model, *flags)
        assert result.exit_code == 0, result.exception
        paid.append(read_plan("plan.yaml", (place / "plan.yaml").read_text()).assumptions.on_demand_usd_per_mtok.input)
    assert paid == [0.72, 3.0]


def test_a_model_without_a_price_is_told_those_that_have_one(place: Path) -> None:
    """Names near it that can be given instead."""
    flags = ("--unit-input", 1000, "--unit-output", 1000, "--hourly-usd", 0.03)
    said = refused("--trace", trace(place / "day.csv", 24), "--model", "llama-3.1-70b-v2-instrct", *flags)
    assert "there is one of llama-3-1-70b" in said
    assert "--on-demand-input" in said


def test_a_slow_cheap_lane_is_no_price_on_demand(place: Path) -> None:
    """What a unit does not take goes where it is answered in time; a flex tier at half price is not that."""
    flex = "  - {name: flex, model: llama-3.1-70b, tier: large, backend: simulated, lane: flex, price_factor: 0.5}\n"
    (place / "policies" / "fleet.yaml").write_text(FLEET.replace("prices:", flex + "prices:"))
    assert run("--trace", trace(place / "day.csv", 24), "--plan", "plan.yaml").exit_code == 0
    assert read_plan("plan.yaml", (place / "plan.yaml").read_text()).assumptions.on_demand_usd_per_mtok.input == 1


def test_without_a_policy_it_says_what_to_give(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has none is told of both ways, not of a missing file."""
    trace(place / "day.csv", 24)
    (place / "policies").rename(place / "elsewhere")
    monkeypatch.delenv("ROUTER_POLICIES", raising=False)
    said = refused("--trace", "day.csv", "--model", "m")
    assert said.startswith("no policy directory policies here: name one with --policies, or give all of --unit-input")


def test_a_plan_holds_at_every_hour_what_the_advice_says(place: Path) -> None:
    """A committed base, and office hours on top of it."""
    rows = ["arrival_s,input_tokens,output_tokens"]
    for minute in range(15 * 1440):
        units = 6 if minute // 1440 % 7 < 5 and 9 <= minute // 60 % 24 < 17 else 2
        rows += [f"{minute * 60 + call * 10},1000,0" for call in range(units)]
    (place / "weeks.csv").write_text("\n".join(rows))
    prices = ("--hourly-usd", 0.035, "--hourly-usd-1m", 0.025, "--starts", "2024-06-03", "--timezone", "Europe/Berlin")
    result = run(
        "--trace", "weeks.csv", "--model", "m", *FLAGS, *prices, "--plan", "plan.yaml", "--report", "page.html"
    )
    assert result.exit_code == 0, result.output
    plan = read_plan("plan.yaml", (place / "plan.yaml").read_text())
    assert [(one.commitment.value, one.units) for one in plan.purchases] == [("one-month", 2), ("none", 4)]
    assert {plan.units_at(day, hour) for day in WEEK[:5] for hour in range(9, 17)} == {6}
    assert {plan.units_at(day, hour) for day in WEEK[5:] for hour in range(24)} == {2}
    assert (place / "page.html").read_text().count("<svg") >= 4
    assert "mon-fri 09:00-17:00" in RUNNER.invoke(capacity, ["show", "plan.yaml"]).output


def test_a_rotated_log_is_read_whole(place: Path) -> None:
    """Archives and the file being written are one record; what another model answered is no demand of this one."""
    events = [ended(n, MONDAY + n * 5.0) for n in range(1500)]
    events += [ended(n, MONDAY + n * 5.0, model="llama-3.1-8b") for n in range(30)]
    events.append(ended(0, MONDAY, status="failed", output_tokens=0))
    write_log(place / "state", events, max_bytes=60_000)
    assert len(list(decision_folder(place / "state").glob("decisions-*.jsonl.gz"))) > 3
    read, model = read_log(place / "state", model="llama-3.1-70b")
    assert model == "llama-3.1-70b"
    assert len(read.calls.at_s) == 1500
    assert read.calls.at_s[[0, -1]].tolist() == [MONDAY, MONDAY + 1499 * 5.0]
    assert read.notes == ()


def test_a_log_and_its_trace_give_the_same_units(place: Path) -> None:
    """One record, told twice: arrivals are taken back from ends, and cut to whole minutes."""
    write_log(place / "state", [ended(n, MONDAY + n * 6.0, output_tokens=0) for n in range(1800)])
    trace(place / "trace.csv", 3)
    for kind, name in (("--log", "state"), ("--trace", "trace.csv")):
        asked = ("--model", "llama-3.1-70b", *FLAGS, "--hourly-usd", 0.03, "--json", f"{name}.json")
        assert run(kind, name, *asked).exit_code == 0
    log, told = (json.loads((place / f"{n}.json").read_text())["advice"] for n in ("state", "trace.csv"))
    assert log["held"][0]["units"] == told["held"][0]["units"] == {"mean": 3.0, "low": 3.0, "high": 3.0}


def test_a_log_may_be_the_directory_one_stands_in(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--log .` has a name in the plan."""
    monkeypatch.chdir(write_log(place / "state", [ended(n, MONDAY + n * 6.0) for n in range(1000)]))
    result = run("--log", ".", *FLAGS, "--hourly-usd", 0.03, "--plan", "plan.yaml")
    assert result.exit_code == 0, result.output
    assert read_plan("plan.yaml", Path("plan.yaml").read_text()).input.name == "state"


def test_damage_in_a_log_is_said(place: Path) -> None:
    """A torn outcome and a line of nothing are left out, counted and placed."""
    write_log(place / "state", [ended(n, MONDAY + n * 6.0) for n in range(1000)])
    path = decision_folder(place / "state") / "decisions.jsonl"
    path.write_text(path.read_text() + '{"record":"outcome","version":1,"decision_id\nnonsense\n')
    result = run("--log", "state", *FLAGS, "--hourly-usd", 0.03)
    assert result.exit_code == 0
    assert "2 lines of the log could not be read" in result.output
    assert "decisions.jsonl:1001" in result.output


def test_thin_demand_is_a_warning_and_no_failure(place: Path) -> None:
    """Two hours give an advice that says how little it is worth; half an hour gives none."""
    result = run("--trace", trace(place / "two.csv", 2), "--model", "m", *FLAGS, "--hourly-usd", 0.03)
    assert result.exit_code == 0
    assert "! Thin: 2.0 hours of demand" in result.output
    half = place / "half.csv"
    half.write_text("arrival_s,input_tokens,output_tokens\n0,10,10\n1800,10,10\n")
    assert "whole minutes of demand: 30. That is too little" in refused(
        "--trace", half, *FLAGS, "--hourly-usd", 1, "--model", "m"
    )


def test_nothing_is_bought_where_nothing_pays(place: Path) -> None:
    """Units dearer than their tokens: an empty plan, exit 0, and why."""
    day = trace(place / "day.csv", 24)
    result = run("--trace", day, "--model", "m", *FLAGS, "--hourly-usd", 0.09, "--plan", "p.yaml", "--report", "p.html")
    assert result.exit_code == 0
    assert "Reserve nothing for m" in result.output
    assert "1.50 times what its tokens cost on demand" in result.output
    assert read_plan("p.yaml", (place / "p.yaml").read_text()).purchases == ()
    assert "Nothing is to be bought" in RUNNER.invoke(capacity, ["show", "p.yaml"]).output


def test_show_reads_a_plan_and_refuses_a_broken_one(place: Path) -> None:
    """A plan in words; an edit that means nothing, with its line."""
    run("--trace", trace(place / "day.csv", 24), "--plan", "plan.yaml")
    shown = RUNNER.invoke(capacity, ["show", "plan.yaml"])
    assert shown.exit_code == 0
    assert "all hours" in shown.output
    text = (place / "plan.yaml").read_text()
    (place / "plan.yaml").write_text(text.replace("units: 1", "units: many"))
    broken = RUNNER.invoke(capacity, ["show", "plan.yaml"])
    assert isinstance(broken.exception, RouterError)
    assert "plan.yaml:" in str(broken.exception)
    assert isinstance(RUNNER.invoke(capacity, ["show", "none.yaml"]).exception, RouterError)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "either --log STATE or --trace FILE"),
        (("--log", "state", "--trace", "day.csv"), "either --log STATE or --trace FILE"),
        (("--log", "nowhere"), "no decision log here"),
        (("--trace", "nowhere.csv"), "No such file"),
        (("--trace", "day.csv", "--unit-input", 5), "add --unit-output"),
        (("--trace", "day.csv", "--on-demand-output", 5), "add --on-demand-input"),
        (("--trace", "day.csv", "--deployment", "large"), "no provisioned deployment; there are: reserved"),
        (("--trace", "day.csv", "--model", "llama-3.1-8b"), "no provisioned deployment of llama-3.1-8b"),
        (("--trace", "day.csv", "--model", "m", "--deployment", "reserved"), "serves llama-3.1-70b, not m"),
        (("--trace", "day.csv", *FLAGS, "--hourly-usd", 1), "name it with --model"),
        (("--trace", "day.csv", "--timezone", "Mars"), "no such timezone"),
        (("--trace", "day.csv", "--date", "31.3.2026"), "write a date such as 2026-03-31"),
        (("--trace", "day.csv", "--hourly-usd", "inf"), "--hourly-usd: expected a number"),
        (("--trace", "day.csv", "--unit-input", "inf", "--unit-output", 1), "--unit-input: expected a number"),
        (("--trace", "day.csv", "--scale", "inf"), "--scale: expected a number"),
        (("--trace", "day.csv", "--schedule", "week"), "this record allows flat"),
        (("--trace", "day.csv", "--plan", "no/where.yaml"), "there is no directory"),
        (("--trace", "empty.csv"), "no request in it"),
        (("--trace", "far.csv"), "is a clock wrong in it"),
        (("--trace", "day.csv", "--on-demand-input", 0, "--on-demand-output", 0), "there is nothing to save"),
    ],
)
def test_what_is_missing_or_wrong_is_said(place: Path, arguments: tuple[object, ...], said: str) -> None:
    """One sentence that says what to do."""
    trace(place / "day.csv", 24, calls=1)
    (place / "empty.csv").write_text("arrival_s,input_tokens,output_tokens\n")
    (place / "far.csv").write_text("arrival_s,input_tokens,output_tokens\n0,1,1\n1e10,1,1\n")
    assert said in refused(*arguments)


def test_a_log_of_several_models_asks_which(place: Path) -> None:
    """With what each answered; a name that answered nothing is refused as well."""
    events = [ended(n, MONDAY + n * 5.0, model=("a", "b")[n % 3 == 0]) for n in range(900)]
    write_log(place / "state", events)
    told = refused("--log", "state", *FLAGS, "--hourly-usd", 1)
    assert "say which with --model. There are: a (600), b (300)" in told
    assert "`c` answered nothing" in refused("--log", "state", *FLAGS, "--hourly-usd", 1, "--model", "c")


def test_the_same_record_gives_the_same_page(place: Path) -> None:
    """Byte by byte, plan and page."""
    day = trace(place / "day.csv", 30, tokens=777)
    texts = []
    for _ in range(2):
        run("--trace", day, "--plan", "plan.yaml", "--report", "page.html", "--date", "2026-03-31")
        texts.append(((place / "plan.yaml").read_text(), (place / "page.html").read_text()))
    assert texts[0] == texts[1]
