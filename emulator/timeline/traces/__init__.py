"""Measured traces: read as Timelines, written from Timelines, fitted by profiles."""
