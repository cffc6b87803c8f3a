"""A broken document beside a sound fleet, and the one message that it must give."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from router.domain.errors import PolicyError
from router.policy.compile import compile_policy
from router.policy.parse import PolicyErrors

FLEET = """\
deployments:
  - {name: small, model: llama-3.1-8b, tier: small, backend: simulated}
  - {name: large, model: llama-3.1-70b, tier: large, backend: simulated}
prices:
  models:
    llama-3.1-8b: {input: 0.22, output: 0.22}
    llama-3.1-70b: {input: 0.99, output: 0.99}
"""


class Mistake(NamedTuple):
    """A document with ▸ where the message must point, and what it must say."""

    text: str
    path: str
    says: str

    def place(self) -> tuple[int, int]:
        """Line and column of the mark, from 1."""
        before = self.text[: self.text.index("▸")]
        return before.count("\n") + 1, len(before) - before.rfind("\n")

    def document(self) -> str:
        """The text without the mark."""
        return self.text.replace("▸", "")


def problems_of(*texts: str) -> tuple[PolicyError, ...]:
    """Everything that is wrong with these documents, called 0.yaml, 1.yaml ..."""
    with pytest.raises(PolicyErrors) as refused:
        compile_policy([(f"{i}.yaml", text) for i, text in enumerate(texts)])
    return refused.value.problems


def told_once(mistake: Mistake, *before: str) -> None:
    """The document is 1.yaml after those given (the fleet if none): one message, at the mark, with path and words."""
    texts = (*(before or (FLEET,)), mistake.document())
    (problem,) = problems_of(*texts)
    line, column = mistake.place()
    file = f"{len(texts) - 1}.yaml"
    assert (problem.file, problem.line, problem.column) == (file, line, column), str(problem)
    assert problem.path == mistake.path or not mistake.path, str(problem)
    assert mistake.says in problem.problem, str(problem)
    assert str(problem).startswith(f"{file}:{line}:{column}: ")
