"""What requests that are answered in parts are measured by."""
