"""Sweeps: a matrix of scenarios, seeds, start times and parameters, in virtual time or real, resumed after a stop."""
