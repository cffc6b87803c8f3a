"""Who waits for whom? The only owner of tasks."""
