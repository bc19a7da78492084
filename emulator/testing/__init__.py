"""Measuring a bench from outside: probes, transfers, comparison with what was commanded, and the report."""
