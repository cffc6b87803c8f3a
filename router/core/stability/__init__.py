"""What keeps the controller's own changes from doing harm?

Every change that is made without being asked for is an event with what it was, what it is and why, or is part of the
evidence of a decision. The inventory, with what keeps each from swinging:

| what changes | event | what holds it steady |
|---|---|---|
| limit of calls | `LimitUpdate` in_flight | once per answer to the last change; grows in use only |
| limit of tokens | `LimitUpdate` tokens | refusals and stand-stills only; lifted slowly, then faster (CUBIC) |
| size of reserved capacity | `LimitUpdate` | throttles; probed upwards by a twentieth a minute |
| spill to on-demand and back | `SpillChanged` | asymmetric bounds and a dwell |
| capacity and floor price | `PriceUpdate` | integral, bounded by the policy; told from a quarter of a unit on |
| price of a budget, bid price | `PriceUpdate` | solved over a window of requests; told from a quarter on |
| learned `max_tokens` | `CeilingUpdate` | 32 answers between looks; a tenth or more; sinks later |
| circuit of a deployment | `HealthChanged` | three failures; a cool-down that doubles, jittered by a seed; one probe |
| provisioned throughput that does not serve | `ProvisionedChanged` | as AWS says, once a minute; back by one probe |
| what is known of a deployment | `KnowledgeChanged` | worse at once, better after a dwell (`control.staleness`) |
| interval of predictions | `CoverageChanged` | a minute out of bounds; narrower bounds back (`learning.coverage`) |
| tuning held and let go | `TuningChanged` | two windows; minutes, then doubled (`.freeze`) |
| model that fell, frozen source | `DriftDetected` | sums of standard deviations; tried again after a doubling wait |
| rollout of an edit | `RolloutChanged` | steps, least requests, burn of two windows |
| budget of the day | `BudgetChanged` | a day |
| replicas wanted | `WantedReplicas` | prompt upwards, patient downwards |
| lane of a request | `LaneChanged` | climbs only |
| batch job, and who is given back by it | `JobChanged` | as the service says; a request leaves at its last moment |
| size and wait of a batch | `BatchEnded` | bound anew for each batch; never under the stability batch |
| retry, fallback, hedge, cascade | `DecisionMade`, `AttemptEnded`, `CascadeChecked` | one deadline and a retry budget |

In `mode: advise` limits, capacity prices, floor prices and learned ceilings are found and told all the same, marked as
`advised`, and are not in force. What guards servers and money stays in force: circuits, throttles, quotas, budgets.
Where a `TuningChanged` holds limits and prices, the same guards go on.
"""
