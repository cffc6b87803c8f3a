"""How does AWS spell a call? Requests read, checked and answered by botocore's own service models."""
