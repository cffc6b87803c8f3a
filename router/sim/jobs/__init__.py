"""What would a lane of batch jobs save, and what would it delay?

The lanes, their beat and their books are the daemon's own, on the run's clock; only the service behind them is
simulated. A fleet with such a lane beside the same model on demand:

```yaml
deployments:
  - {name: now, model: m, tier: small, price_usd_per_mtok: {input: 1.0, output: 4.0}, step_ms: {base: 10}}
  - name: nightly
    model: m
    tier: small
    kind: job
    price_usd_per_mtok: {input: 0.5, output: 2.0}
    job: {takes_s: 7200, sigma: 0.3, min_records: 100, collect_s: 900, typical_s: 7200}
```

`router simulate night.jsonl --fleet lanes.yaml --policies nightly --json out.json` has requests whose `deadline_s`
leaves hours wait for a job. An event of the fleet befalls jobs too: `slowdown` stretches them, `down` fails those under
way and refuses new ones, `throttle_ratio` refuses a share. Once everybody is answered the run goes on until the last
job is over, stopped or not, and its bill is known; simulated time of the report ends with the last answer.

The report tells under `jobs`, by lane:

* `requests` that were sent to it, how many it `answered`, how many were `moved` to others and why (`batch_late`: its
  job was not done and the slack ran out; `batch_too_few`: no job came about in time; `batch_failed`,
  `batch_record_failed`), and `deadline_kept`, the share of `requests` answered in time there or elsewhere;
* `wait_s` of its answers from arrival, `jobs` by how they ended with their `records`, `job_s` they took, `failed_calls`
  of the service;
* `cost_usd` of its answers, `unused` answers that came when nobody waited and their `unused_usd`, and `saved_usd`: what
  its answers would have cost at `online`, the cheapest other deployment of its model, less both;
* `over_time`, once a minute: records that are `collecting` and in `running` jobs, and `least_slack_s` to a deadline.
"""
