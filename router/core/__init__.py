"""So what do we do now?

The sans-IO controller: it is told what happened and when, and answers with values and events. It never awaits, logs,
sleeps, opens a file or reads a clock, so that the daemon, the simulator and replay drive the very same code.
The five families (complexity, routing, control, slo, learning) meet in `views`, which fills one frozen
`DeploymentView` per candidate; `ledger` is the truth about what is in flight.
"""
