"""What servers tell of their own load is measured by."""
