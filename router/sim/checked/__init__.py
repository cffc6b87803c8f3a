"""What would a check of answers do that is so and so strong? Recorded workloads have truth and no text.

A cascade's own checks have nothing to look at there, so a check is played by whoever a request names: its strength is
given, its verdicts are drawn, and everything else is the daemon's.
"""

from __future__ import annotations
