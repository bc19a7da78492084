"""Verdicts with proof: figures with confidence intervals, and `invalid` where the emulation itself fell behind."""
