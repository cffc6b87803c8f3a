"""What can be served but was hardly meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from router.policy.checks.judging import check_judging
from router.policy.checks.money import check_budgets
from router.policy.checks.places import Places
from router.policy.checks.problem import Problem, Severity, as_problem
from router.policy.checks.promises import check_floors, check_times
from router.policy.checks.reach import check_capacity, check_matches
from router.policy.checks.tuning import check_bounded, check_effect
from router.policy.compile_class import promises
from router.policy.policy import Policy
from router.policy.schema.classes import ObjectiveTerms
from router.policy.written import Documents, Written, read

CHECKS: tuple[Callable[[Policy, Places], Iterator[Problem | None]], ...] = (
    check_floors,
    check_times,
    check_budgets,
    check_matches,
    check_capacity,
    check_effect,
    check_bounded,
    check_judging,
)


def find_warnings(documents: Documents, policy: Policy) -> tuple[Problem, ...]:
    """Everything doubtful about a policy that these documents compiled to, in reading order: one of a kind a place, so
    what stands in the defaults is told once and not for each class."""
    written = read(documents)
    places = Places(written)
    found = {_place(problem): problem for problem in _unreferenced(written)}
    for check in CHECKS:
        for problem in check(policy, places):
            if problem is not None:
                found.setdefault(_place(problem), problem)
    return tuple(found[place] for place in sorted(found))


def _place(problem: Problem) -> tuple[str, int, int, str]:
    return problem.file, problem.line, problem.column, problem.code


def _unreferenced(written: Written) -> Iterator[Problem]:
    named = {
        value.slo
        for place in written.terms()
        for _, _, value in promises(place.terms)
        if isinstance(value, ObjectiveTerms)
    }
    for name, slo in written.slos.slos.items():
        if name not in named:
            message = f"nobody keeps this SLO: no objective says `slo: {name}`"
            error = slo.problem(("metadata", "name"), message)
            yield as_problem(error, severity=Severity.WARNING, code="slo_unused")
