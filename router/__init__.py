"""The adaptive model router: one decision from content, load, price and deadline."""

__version__ = "0.1.0"
