"""How does Bedrock serve a call? Which model, whether the quota allows it, how fast, from what cache, for how much."""
