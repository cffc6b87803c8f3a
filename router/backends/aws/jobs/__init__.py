"""Requests that have hours are collected into batch jobs: half the price, an answer when the job is done.

`collector` says when a job is full enough, `running` what becomes of one, `lane` keeps both together for a deployment,
`backend` is the router's door to them, `service` the calls of AWS.

A record is known by whose request it is and by the digest of its body. Before AWS is asked for a job, its token and its
records are on the disk: after a crash the same token asks for the same job, requests that are delivered again are
attached to the job that has them, and an answer is handed out as paid for once. A record that leaves (too few came, no
slack, a failed job) raises `Returned`, and is decided again elsewhere.
"""
