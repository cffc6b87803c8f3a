"""The first answer is there: is it sent, or made again elsewhere?"""

from __future__ import annotations

from math import inf
from random import Random

from msgspec import Struct

from router.core.cascade.option import fits, given_first, is_under, worth
from router.core.evidence import Memory
from router.core.ticket import Ticket
from router.core.views import Viewer
from router.core.weigher import Weigher
from router.domain.events import CascadeChecked
from router.domain.outcome import Outcome
from router.domain.slo import Check
from router.domain.view import DeploymentView
from router.learning.verify.checks import FAIL, PASS, Grades
from router.slo.judge import judge
from router.stats.normal import logit, sigmoid
from router.wire.openai.verify import read_answer

PASSED = "passed"


class Look(Struct, frozen=True):
    """What the checks that need no waiting say of an answer. `callback`: the topic of whoever is to be asked as well;
    `None` where nobody is."""

    outcome: Outcome
    grades: Grades
    callback: str | None = None


class _Checked(Struct, frozen=True):
    """An answer with what the checks said of it, and P(adequate) before and after."""

    outcome: Outcome
    grades: Grades
    before: float
    after: float


class Second:
    """Takes the answers of classes with a cascade.

    What a check says against an answer is learned only from such answers that were sent and judged. So some of those
    that failed and would be made again are sent as they are: together no more than the class's exploration share of all
    checked answers, fewer the more is known. The propensity of what was done is logged, and the floor counts such an
    answer for what it is expected to be.
    """

    def __init__(self, weigher: Weigher, viewer: Viewer, memory: Memory, rng: Random) -> None:
        self._weigher, self._viewer, self._memory, self._rng = weigher, viewer, memory, rng

    def look(self, ticket: Ticket, done: Outcome, choices: bytes) -> Look | None:
        """Check an answer, once; `None` where nothing can be said of it."""
        checks, answer, attempt = ticket.checks, read_answer(choices), done.attempt
        ticket.checks = None
        if checks is None or answer is None or attempt.deployment.model not in ticket.qualities:
            return None
        is_bounded = attempt.request.max_tokens is None and attempt.max_tokens is not None
        grades = checks.grade(answer, is_bounded=is_bounded)
        callback = checks.callback
        if callback is not None and (has_failed(grades) or attempt.deployment.name not in ticket.asking):
            self._viewer.checks.verdicts.on_unasked(ticket.request_class.name)
            callback = None
        return Look(done, grades, callback) if grades or callback is not None else None

    def on_verdict(self, ticket: Ticket, look: Look, passed: bool | None, *, waited_s: float) -> Look:
        """Whoever was asked said so, or nothing in time."""
        name = ticket.request_class.name
        self._viewer.checks.verdicts.observe(name, waited_s, answered=passed is not None)
        if passed is None:
            return look
        return Look(look.outcome, (*look.grades, (Check.CALLBACK, PASS if passed else FAIL)))

    def on_answer(self, ticket: Ticket, look: Look, *, now: float) -> CascadeChecked | None:
        """Say whether an answer should be made again. What is learned of it stands in the ticket from then on."""
        if not look.grades:
            return None
        attempt, grades = look.outcome.attempt, look.grades
        model = attempt.deployment.model
        before, low = ticket.qualities[model]
        shift = self._viewer.checks.shift(model, grades)
        after = sigmoid(logit(before) + shift)
        self._viewer.checks.on_checked(before, model, grades)
        self._memory.on_checked(attempt.decision_id, before, shift, grades)
        ticket.qualities[model] = after, sigmoid(logit(low) + shift)
        ticket.doubted = has_failed(grades)
        escalated, propensity = self._is_made_again(ticket, _Checked(look.outcome, grades, before, after), now=now)
        return CascadeChecked(
            request_class=ticket.request_class.name,
            deployment=attempt.deployment.name,
            passed=not ticket.doubted,
            why=_why(grades),
            p_adequate_before=before,
            p_adequate_after=after,
            escalated=escalated,
            propensity=propensity,
            decision_id=attempt.decision_id,
            grades=tuple((check.value, grade) for check, grade in grades),
        )

    def _is_made_again(self, ticket: Ticket, checked: _Checked, *, now: float) -> tuple[bool, float]:
        """Whether the best of the others is worth more than the answer in hand and this one is not sent to learn from,
        and the probability of that. If so, the ticket is left as the next decision needs it: with those barred that
        would be late, too dear together with the first, or more than the mean budget can bear now."""
        tried, known = ticket.tried, dict(ticket.qualities)
        self._expect_of_others(ticket, checked)
        ticket.tried |= {checked.outcome.attempt.deployment.name}
        share = ticket.request_class.exploration_ratio
        if share > 0.0:
            model = checked.outcome.attempt.deployment.model
            share = self._viewer.checks.audited(model, checked.grades, share)
        is_better = self._is_better(ticket, checked, now=now)
        if is_better and (share <= 0.0 or self._rng.random() >= share):
            return True, 1.0 - share
        ticket.tried, ticket.shifts = tried, {}
        ticket.qualities.update(known)
        return False, share if is_better else 1.0

    def _is_better(self, ticket: Ticket, checked: _Checked, *, now: float) -> bool:
        cascade = ticket.request_class.cascade
        assert cascade is not None
        need = self._weigher.need(ticket, now)
        views, candidates, _ = self._weigher.weigh(ticket, need, observe=False)
        bears_usd = inf if ticket.pace is None else ticket.pace.bears_usd
        ticket.tried |= {
            v.deployment.name
            for v in views
            if v.cost_usd > bears_usd or not fits(ticket, v, now, paid_usd=ticket.cost_usd)
        }
        left = [i for i, view in enumerate(views) if view.deployment.name not in ticket.tried]
        if not left:
            return False
        best = max(left, key=lambda i: candidates[i].score)
        view: DeploymentView = views[best]
        if cascade.threshold is not None:
            return is_under(cascade.threshold, checked.after, view.p_adequate, view.p_slo)
        return candidates[best].score > worth(checked.after, _in_time(ticket, checked.outcome, now), need)

    @staticmethod
    def _expect_of_others(ticket: Ticket, checked: _Checked) -> None:
        """What the first answer is like tells how hard the request is for the other models."""
        mine = checked.outcome.attempt.deployment.model
        for model, (p, low) in ticket.qualities.items():
            if model != mine:
                p_after = given_first(p, checked.before, checked.after)
                shift = logit(p_after) - logit(p)
                ticket.shifts[model] = shift
                ticket.qualities[model] = p_after, sigmoid(logit(low) + shift)


def has_failed(grades: Grades) -> bool:
    """Whether a check speaks against the answer: of those that ran, only the last can."""
    return bool(grades) and grades[-1][1] == FAIL


def _why(grades: Grades) -> str:
    """The check that speaks against the answer."""
    return grades[-1][0].value if has_failed(grades) else PASSED


def _in_time(ticket: Ticket, done: Outcome, now: float) -> float:
    """1 where the answer in hand keeps every objective if it is sent now, else 0. The first token of a stream that was
    held back is only then sent."""
    arrived = ticket.request.arrived
    first = now if ticket.request.stream or done.first_token is None else done.first_token
    met = judge(
        ticket.request_class.objectives,
        ttft_s=first - arrived,
        tpot_s=done.tpot_s,
        e2e_s=now - arrived,
        answered=True,
    )
    return float(all(ok for _, ok in met) and (ticket.aim is None or now <= ticket.aim))
