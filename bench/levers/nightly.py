"""What has hours goes into batch jobs."""

from __future__ import annotations

from bench.batch_lane import JOB_S, REQUESTS, night
from bench.levers.row import Row, less


async def batch_lane() -> Row:
    """The same requests, each with a day to be answered in, without the lane and with it."""
    now_usd, _, _, now_s = await night(with_lane=False)
    usd, billed, jobs, took_s = await night(with_lane=True)
    assert abs(usd - billed) < 1e-9, (usd, billed)
    return Row(
        "half the price of on demand (Amazon Bedrock's page on prices), answers within hours",
        f"USD 0.4/2 in a job, 0.8/4 on demand; a job takes {JOB_S / 3600:g} h on a clock that is moved; {REQUESTS} "
        "requests of 2,000 tokens in and 250 out, each with a day",
        f"USD {now_usd:.2f} to {usd:.2f} ({less(now_usd, usd)}), booked as billed; {jobs} job, every answer there "
        f"after {took_s / 3600:.1f} h; on demand at once",
        {"demand_usd": now_usd, "lane_usd": usd, "jobs": jobs, "demand_s": now_s, "lane_s": took_s},
    )
