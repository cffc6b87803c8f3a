"""Batch jobs that nobody pays: the far side of the job lanes, for whatever clock runs.

`terms` reads the `job` part of a fleet, `course` says how far a job is at any moment, `service` is what S3 and Bedrock
are to a lane, `store` its memory, `backend` the door. The lanes between door and service are the daemon's own.
"""
