"""Requests that wait for batch jobs: where they belong after a restart, and the loop that sees to the jobs."""
