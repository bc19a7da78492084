"""Taps on the packet's journey: what puts packets in, and what looks at those that pass."""
