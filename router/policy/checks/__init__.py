"""Does the policy hang together, and does it say what its author means?

Two kinds of findings. An error can never be meant: a name that is not there, a range upside down; it is told by
`compile_policy`, and the policy is not taken up. A warning is about a policy that can be served, but not as written: an
objective below what any deployment can reach, a class that no request falls in; `find_warnings` tells them. What rests
on measured figures or on prices is a warning, for figures change without an edit. A new check of one class goes to
`terms`, of names to `references`, of the whole to the file of its subject, and into `CHECKS` in `warnings`.
"""
