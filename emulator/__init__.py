"""Bentpipe: a hardware-in-the-loop satellite terminal emulator that carries real IP traffic."""

__version__ = "0.1.0"
