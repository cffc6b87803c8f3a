"""What does a server tell of its own load? Its Prometheus metrics, over HTTP."""
