"""What would an edit of the policy change, and how would it come into force?

`difference` (in `policy.diff`) lists what differs, for logs. Here each difference is weighed: what it touches, whether
a promise or a bound became tighter or looser, which classes it moves requests between (shown by requests made up from
the conditions of both policies), and whether it is swapped at once, goes by the steps of a rollout, or drains first.

Invariants: two policies that mean the same have no change; every field of a policy is known here, or a test fails;
fields are called as in the documents.
"""
