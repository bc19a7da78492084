"""Interpreted, for coverage and checked indices, the laws get fewer examples, and the test of both builds rests."""

from __future__ import annotations

from hypothesis import settings

from emulator.link import compiled

collect_ignore: list[str] = []
if compiled.interpreted:
    settings.register_profile("interpreted", settings.default, max_examples=30)
    settings.load_profile("interpreted")
    collect_ignore = ["test_two_builds.py"]  # it runs processes of both kinds, whatever this one is
