"""`router policy check` and `router policy schema`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from router.cli.main import app
from router.cli.policy.check import annotation
from router.policy.checks.problem import Problem, Severity
from router.policy.schema.json import json_schema
from tests.unit.policy_mistakes import FLEET

POLICIES = Path(__file__).parents[2] / "policies"
DOUBTFUL = "class:\n  name: a\n  exploration: 50%\n"
BROKEN = "class:\n  nam: a\n  deadline: soon\n"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A sound fleet in a policy directory."""
    (tmp_path / "fleet.yaml").write_text(FLEET, "utf-8")
    return tmp_path


def check(directory: Path, *options: str) -> Result:
    return CliRunner().invoke(app, ["policy", "check", str(directory), *options])


def write(directory: Path, text: str, name: str = "a.yaml") -> str:
    (directory / name).write_text(text, "utf-8")
    return str(directory / name)


def test_a_sound_policy_is_told_with_its_digest(directory: Path) -> None:
    """Exit status 0, what it holds, and that nothing is wrong."""
    found = check(directory, "--strict")
    assert found.exit_code == 0
    assert "2 deployments, classes default" in found.output
    assert found.output.endswith("no problem\n")


def test_errors_are_grouped_by_file_and_counted(directory: Path) -> None:
    """Exit status 1, a heading for each file, line and column, field and message, and what the daemon would do."""
    first, second = write(directory, BROKEN), write(directory, "bounds: {limit_min: 0}\n", "b.yaml")
    found = check(directory)
    assert found.exit_code == 1
    lines = found.output.splitlines()
    assert lines[0] == first
    assert lines[1].split(maxsplit=2)[:2] == ["2:3", "error"]
    assert any("class.deadline: expected a duration" in line for line in lines)
    assert lines[lines.index(second) + 1].split()[:2] == ["1:21", "error"]
    assert lines[-1] == "4 errors; the daemon would keep its old policy"


def test_warnings_fail_only_the_strict(directory: Path) -> None:
    """A doubtful policy is accepted, told, and refused by `--strict`."""
    file = write(directory, DOUBTFUL)
    found = check(directory)
    assert found.exit_code == 0
    assert found.output.startswith(f"{file}\n  3:16     warning  class.exploration: 50% of the requests may go")
    assert found.output.endswith("1 warning\n")
    assert check(directory, "--strict").exit_code == 1


def test_json_is_a_list_of_findings(directory: Path) -> None:
    """Errors and warnings in one form; an empty list where nothing is wrong."""
    assert json.loads(check(directory, "--format", "json").output) == []
    file = write(directory, DOUBTFUL)
    (found,) = json.loads(check(directory, "--format", "json").output)
    assert found.pop("message").startswith("50% of the requests")
    assert found == {
        "severity": "warning",
        "code": "much_exploration",
        "file": file,
        "line": 3,
        "column": 16,
        "path": "class.exploration",
    }
    write(directory, BROKEN)
    told = check(directory, "--format", "json")
    assert told.exit_code == 1
    assert {p["severity"] for p in json.loads(told.output)} == {"error"}


def test_github_shows_findings_beside_the_lines(directory: Path) -> None:
    """One workflow command for each finding, and nothing else."""
    file = write(directory, DOUBTFUL)
    found = check(directory, "--format", "github")
    assert found.output.startswith(f"::warning file={file},line=3,col=16::class.exploration: 50%25 of the requests")
    assert len(found.output.splitlines()) == 1


def test_what_ends_a_workflow_command_is_escaped() -> None:
    """A message or a file name cannot start a command of its own."""
    problem = Problem(Severity.ERROR, "c", "a,b:c%.yaml", 1, 2, "", "100%\r\n::set-env name=x::y")
    assert annotation(problem) == "::error file=a%2Cb%3Ac%25.yaml,line=1,col=2::100%25%0D%0A::set-env name=x::y"


def test_a_directory_without_policies_is_an_error(tmp_path: Path) -> None:
    """Said as any other error is, in every form."""
    found = check(tmp_path / "nowhere", "--format", "json")
    assert found.exit_code == 1
    assert "no *.yaml file here" in json.loads(found.output)[0]["message"]


def test_openslo_documents_are_checked_beside_policies(directory: Path) -> None:
    """An SLO of two documents in a file is read, referred to, and told where it is wrong."""
    slo = "apiVersion: openslo/v1\nkind: SLO\nmetadata: {name: first}\n"
    slo += "spec: {indicator: {spec: {}}, objectives: [{op: lte, value: 1, target: 0.9}]}\n---\n"
    slo += "apiVersion: openslo/v1\nkind: Service\nmetadata: {name: chat}\nspec: {}\n"
    file = write(directory, slo, "slo.yaml")
    write(directory, "class: {name: a, objectives: {ttft: {slo: first}}}\n")
    assert check(directory, "--strict").exit_code == 0
    write(directory, slo.replace("target", "taget"), "slo.yaml")
    assert f"{file}\n  4:64" in check(directory).output


def test_the_schema_beside_the_shipped_policies_is_the_one_in_force() -> None:
    """Stale? `router policy schema > policies/schema.json`."""
    printed = CliRunner().invoke(app, ["policy", "schema"]).output
    assert json.loads(printed) == json_schema()
    assert (POLICIES / "schema.json").read_text("utf-8") == printed


@pytest.mark.parametrize("file", sorted(POLICIES.rglob("*.yaml")), ids=lambda p: str(p.relative_to(POLICIES)))
def test_every_shipped_policy_names_its_schema(file: Path) -> None:
    """Editors complete and underline: the first line leads to the schema from where the file is."""
    first = file.read_text("utf-8").splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (file.parent / first.partition("=")[2]).resolve() == POLICIES / "schema.json"
