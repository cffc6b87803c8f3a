"""What deployments on AWS are measured by besides: each module is a group of metrics of its own."""
