"""Two policies side by side on the same requests: paired runs, their differences and how sure they are."""
