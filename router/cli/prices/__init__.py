"""`router prices`."""

from router.cli.prices.command import prices

__all__ = ["prices"]
