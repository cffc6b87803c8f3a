"""What should a monitoring system watch for, given what was promised?

A policy becomes a file of Prometheus rules: recording rules of the error ratio and the burn rate over every window,
two alerts for each objective (page and ticket), and alerts for money, rollouts and the router's own health. `burn`
says when a budget burns too fast, `promises` and `running` write the rules, `proof` writes tests of them for
`promtool test rules`, and `document` puts it all into one file.

Invariants: only metrics that the router has are named; an alert names the class and the objective as the metrics do
(`request_class`, `objective`), says what was promised and how to go on, and can fire.
"""
