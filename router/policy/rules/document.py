"""One rules file out of one policy."""

from __future__ import annotations

import yaml

from router.policy.policy import Policy
from router.policy.rules.promises import promise_groups
from router.policy.rules.proof import proof
from router.policy.rules.running import running_groups

_WIDTH = 110
_HEAD = """\
# Written by `router policy rules`: change the policy and write it again, not this file.
#
# router:slo_errors:ratio_rateW      share of requests in the window W that missed an objective, by class and objective
# router:slo_burn_rate:ratio_rateW   the same over what the target allows: 1 spends the budget just in its window
# router:slo_error_budget_remaining:ratioW   what is left of the budget of W; negative when overspent
#
# Alerts on objectives follow the multiwindow, multi-burn-rate scheme of the SRE workbook (chapter 5). For a window of
# 30 days: page at 14.4x over 1h and 5m (2 % of the budget) or 6x over 6h and 30m (5 %), ticket at 3x over 1d and 2h or
# 1x over 3d and 6h (10 %). The long window says that it matters, the short one that it still goes on.
"""

_TESTS_HEAD = "# Written by `router policy rules --tests`. Run: promtool test rules THIS_FILE\n"


def rules_document(policy: Policy) -> str:
    """The text of a Prometheus rules file: the same policy always gives the same text."""
    return _HEAD + _written({"groups": _groups(policy)})


def proof_document(policy: Policy, rules_file: str) -> str:
    """The text of a file for `promtool test rules`; `rules_file` is the path of the rules from where it will stand."""
    return _TESTS_HEAD + _written(proof(policy, rules_file))


def _groups(policy: Policy) -> list[dict[str, object]]:
    return [group.written() for group in (*promise_groups(policy), *running_groups(policy))]


class _Dumper(yaml.SafeDumper):
    """Writes a text of several lines as one."""


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def _written(document: object) -> str:
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=_WIDTH, allow_unicode=True)
