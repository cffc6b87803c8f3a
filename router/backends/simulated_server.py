"""How does a model server answer? Iteration-level batching with chunked prefill, sans-IO.

A server works in steps. With B sequences decoding, `ctx` tokens of context in all (each sequence's prompt and
what it has generated) and P prompt tokens taken into the step, a step lasts
`slowdown * (base + per_sequence*B + per_context_token*ctx + per_prefill_token*P)`. Decode goes first; what is
left of the step budget goes to prompts in order of arrival, and a prompt may span steps (chunked prefill as
in Sarathi-Serve, OSDI '24; iteration-level batching as in Orca, OSDI '22). A prompt is admitted while its
input fits into the KV memory and the sequence limit; decoding grows the KV; nothing is evicted. The load of
others takes steps and memory, but nothing of a quota.

The outcome is a function of the times of arrivals and cancels alone, not of when `advance` is called: a step
is formed from what had arrived at its start. While no prompt is taken in, steps differ only by the growth of
the context, so a run of them up to the next thing that matters is taken at once (`simulated_steps`).
"""

from __future__ import annotations

import heapq
from collections import deque

from msgspec import Struct

from router.backends.simulated_events import Disturbances, Gate, PoissonArrivals, Refusal
from router.backends.simulated_fleet import DeploymentSpec
from router.backends.simulated_steps import Gauge, Job, Run, ServerState, Stage, StepClock, StepCost


class _Plan(Struct, frozen=True, gc=False):
    """The next steps from the boundary on; `chunks` are prompt tokens taken in, only where `steps` is 1."""

    run: Run
    steps: int
    chunks: tuple[tuple[Job, int], ...] = ()


class ContinuousServer:
    """One server. `arrive` and `cancel` ask that `advance` was called for the same instant first.

    A job has news at its first token, at its end, and in between at every `piece_tokens`-th step of the server:
    the same step for all, since news at one instant costs an event loop less than news at many.
    """

    def __init__(self, spec: DeploymentSpec, disturbances: Disturbances, *, seed: str, piece_tokens: int = 16) -> None:
        if spec.step_ms is None:
            raise ValueError(f"{spec.name} has no step_ms")
        self._spec = spec
        self._cost = StepCost.of(spec.step_ms)
        self._piece = piece_tokens
        self._disturbances = disturbances
        quota = spec.tokens_per_min
        self._gate = Gate(
            disturbances,
            seed=seed,
            largest=spec.kv_tokens,
            tokens_per_min=(quota.input, quota.output) if quota else None,
        )
        others = spec.background
        self._others = PoissonArrivals(
            others.requests_per_s, f"{seed}/background", on_s=others.on_s, off_s=others.off_s
        )
        self._clock = StepClock(disturbances)
        self._outage_ns = disturbances.next_outage(-1)
        self._ticks = 0
        self._pushes = 0
        self._news: list[Job] = []
        self._forget()

    def _forget(self) -> None:
        self._own: dict[Job, None] = {}
        self._waiting: deque[Job] = deque()
        self._prefilling: Job | None = None
        self._due: list[tuple[int, int, Job]] = []
        self._leaving: list[Job] = []
        self._decoding = self._metered = self._context = self._kv = self._running = 0
        self._plan: _Plan | None = None

    def advance(self, now: int) -> list[Job]:
        """Let time pass to `now`; the jobs that have had news, in order."""
        while self._outage_ns is not None and self._outage_ns <= now:
            self._run_to(self._outage_ns)
            self._fall(self._outage_ns)
        self._run_to(now)
        news, self._news = self._news, []
        return news

    def wake_ns(self) -> int | None:
        """When `advance` should be called next so that no news comes late; `None` with nobody to tell."""
        if not self._own:
            return None
        plan = self._planned()
        end = self._clock.end(plan.run.work(plan.steps)) if plan else None
        return min((t for t in (end, self._outage_ns) if t is not None), default=None)

    def arrive(self, job: Job, now: int) -> Refusal | None:
        """Take a job, or say why not. A refused one costs nothing."""
        refusal = self._gate.refusal(job.input_tokens, now)
        if refusal is None:
            self._cut(now)
            job.arrived_ns = now
            self._waiting.append(job)
            self._own[job] = None
        return refusal

    def cancel(self, job: Job, now: int) -> None:
        """Free a job's place at the end of the step under way; `generated` is what it will be billed for.

        One that no step has taken in goes at once, but a prompt that it held up still joins at the next step.
        """
        if job.ended:
            return
        self._count(job)
        self._cut(now)
        if self._plan is not None and self._in_step(job, self._plan):
            self._leaving.append(job)
        else:
            self._release(job)

    def gauge(self, now: int) -> Gauge:
        """As of `now`, for which `advance` was called."""
        plan = self._planned() if self._clock.boundary < now else None
        entered = [job for job, _ in plan.chunks if job.stage is Stage.WAITING] if plan else []
        kv = self._kv + sum(job.input_tokens for job in entered)
        return Gauge(
            running=self._running + len(entered),
            waiting=len(self._waiting) - len(entered),
            kv_ratio=kv / self._spec.kv_tokens,
        )

    def state(self, now: int) -> ServerState:
        """As of `now`, for which `advance` was called."""
        plan = self._planned()
        prompts = [*self._waiting, *([self._prefilling] if self._prefilling else [])]
        decoding = [job for _, _, job in self._due if job.stage is Stage.DECODE]
        return ServerState(
            gauge=self.gauge(now),
            decoding=self._decoding,
            context_tokens=self._context,
            kv_tokens=self._kv,
            waiting_tokens=sum(job.input_tokens - job.taken for job in prompts),
            remaining=tuple(job.output_tokens - 1 - self._ticks + job.first_tick for job in decoding),
            step_ends_ns=self._clock.end(plan.run.work(1)) if plan else None,
            slowdown=self._clock.slowdown,
            down=self._disturbances.down_until(now) is not None,
        )

    def _fall(self, now: int) -> None:
        """Lose everything to an outage that begins now."""
        for job in self._own:
            self._count(job)
            job.stage = Stage.LOST
            self._news.append(job)
        self._forget()
        until = self._disturbances.down_until(now) or now
        self._others.take(until)
        self._clock.jump(max(self._clock.boundary, until))
        self._outage_ns = self._disturbances.next_outage(now)

    def _run_to(self, now: int) -> None:
        """Take all steps that are over at `now`."""
        others = self._spec.background
        for at in self._others.take(now):
            self._waiting.append(Job(others.input_tokens, others.output_tokens, arrived_ns=at, quiet=True))
        while (plan := self._planned()) is not None:
            steps = plan.steps
            if self._clock.end(plan.run.work(steps)) > now:
                steps = plan.run.steps_within(self._clock.work_until(now))
                if steps <= 0:
                    return
            self._take(plan, min(steps, plan.steps))

    def _planned(self) -> _Plan | None:
        if self._plan is None:
            self._plan = self._form()
        return self._plan

    def _cut(self, now: int) -> None:
        """Plan no further than the step under way, which goes on as formed; one that begins now is formed anew."""
        plan = self._planned()
        if plan is not None:
            self._plan = _Plan(plan.run, 1, plan.chunks) if self._clock.boundary < now else None

    def _form(self) -> _Plan | None:
        """The steps from the boundary on in which nothing changes; a prompt to take in makes it one step."""
        if not self._running:
            if not self._waiting:
                return None
            if self._waiting[0].arrived_ns > self._clock.boundary:
                self._clock.jump(self._waiting[0].arrived_ns)
        chunks, cost = self._chunks(), self._cost
        first = cost.base + cost.per_sequence * self._decoding + cost.per_context_token * self._context
        if chunks:
            taken = sum(tokens for _, tokens in chunks)
            return _Plan(Run(first + cost.per_prefill_token * taken, 0), 1, chunks)
        run = Run(first, cost.per_context_token * self._decoding)
        return _Plan(run, self._alike(run))

    def _chunks(self) -> tuple[tuple[Job, int], ...]:
        """Which prompts the next step takes in, and how many tokens of each."""
        left = self._spec.step_token_budget - self._decoding
        chunks = []
        kv, running = self._kv, self._running
        if self._prefilling is not None and left > 0:
            tokens = min(left, self._prefilling.input_tokens - self._prefilling.taken)
            chunks.append((self._prefilling, tokens))
            left -= tokens
        for job in self._waiting:
            kv, running = kv + job.input_tokens, running + 1
            fits = kv <= self._spec.kv_tokens and running <= self._spec.max_sequences
            if left <= 0 or not fits or job.arrived_ns > self._clock.boundary:
                break
            tokens = min(left, job.input_tokens)
            chunks.append((job, tokens))
            left -= tokens
        return tuple(chunks)

    def _alike(self, run: Run) -> int:
        """How many steps go by before a job has news, somebody arrives or leaves, or the pace changes."""
        steps = self._due[0][0] - self._ticks
        arrival = self._waiting[0].arrived_ns if self._waiting else self._others.next_ns
        for at in (arrival, self._clock.next_change):
            if at is not None and at > self._clock.boundary:
                steps = min(steps, run.steps_within(self._clock.work_until(at - 1)) + 1)
        return steps

    def _take(self, plan: _Plan, steps: int) -> None:
        """Let so many steps of the plan pass."""
        self._plan = None
        if self._gate.metered:
            for done in range(1, steps):
                self._gate.charge_output(self._metered, self._clock.end(plan.run.work(done)))
        generated = self._metered
        self._clock.spend(plan.run.work(steps))
        self._ticks += steps
        self._context += self._decoding * steps
        self._kv += self._decoding * steps
        self._tell_due()
        for job, tokens in plan.chunks:
            self._prefill(job, tokens)
            generated += bool(job.generated and not job.quiet)
        if self._gate.metered:
            self._gate.charge_output(generated, self._clock.boundary)
        for job in self._leaving:
            if not job.ended:
                self._release(job)
        self._leaving.clear()

    def _tell_due(self) -> None:
        """Give news of the decoding sequences that are due at this tick."""
        while self._due and self._due[0][0] <= self._ticks:
            job = heapq.heappop(self._due)[2]
            if job.stage is Stage.DECODE:
                self._count(job)
                self._tell(job)

    def _prefill(self, job: Job, tokens: int) -> None:
        """Take prompt tokens in; the last of them yield the first token."""
        if job.stage is Stage.WAITING:
            self._waiting.popleft()
            self._running += 1
            self._kv += job.input_tokens
            job.stage = Stage.PREFILL
        job.taken += tokens
        if job.taken < job.input_tokens:
            self._prefilling = job
            return
        self._prefilling = None
        job.stage = Stage.DECODE
        job.generated, job.first_tick = 1, self._ticks
        self._decoding += 1
        self._metered += not job.quiet
        self._context += job.input_tokens + 1
        self._kv += 1
        self._tell(job)

    def _tell(self, job: Job) -> None:
        """Give news of a job, and end it or say when it is due again."""
        left = job.output_tokens - job.generated
        if left == 0:
            self._release(job, Stage.DONE)
        else:
            self._pushes += 1
            wait = left if job.quiet else min(left, self._piece - self._ticks % self._piece)
            heapq.heappush(self._due, (self._ticks + wait, self._pushes, job))
        if not job.quiet:
            self._news.append(job)

    def _count(self, job: Job) -> None:
        """Bring `generated` up to date."""
        if job.stage is Stage.DECODE:
            job.generated = 1 + self._ticks - job.first_tick

    @staticmethod
    def _in_step(job: Job, plan: _Plan) -> bool:
        return job.stage is not Stage.WAITING or any(job is other for other, _ in plan.chunks)

    def _release(self, job: Job, stage: Stage = Stage.CANCELLED) -> None:
        """Free what a job holds."""
        if job.stage is Stage.WAITING:
            self._waiting.remove(job)
        else:
            held = job.input_tokens
            if job.stage is Stage.DECODE:
                held += 1 + self._ticks - job.first_tick
                self._decoding -= 1
                self._metered -= not job.quiet
                self._context -= held
            else:
                self._prefilling = None
            self._kv -= held
            self._running -= 1
        job.stage = stage
        self._own.pop(job, None)
