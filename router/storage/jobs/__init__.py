"""Batch jobs that survive a restart."""
