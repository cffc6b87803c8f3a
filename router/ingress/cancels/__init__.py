"""Requests that their senders take back: over a queue nobody can hang up."""
