"""How is it started? main and one file a command."""
