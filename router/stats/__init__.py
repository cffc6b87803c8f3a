"""How do we summarise numbers? Time-aware averages, windows, quantiles, decayed least squares."""
