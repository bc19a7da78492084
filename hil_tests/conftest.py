"""What all tests share: hypothesis profiles, the reference data, and skips that say what is missing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from hil_tests.capabilities import missing, reference_data_directory
from hil_tests.skip_gate import (
    pytest_collection_modifyitems,
    pytest_configure,
    pytest_runtest_setup,
    skip_for,
)

__all__ = ["pytest_collection_modifyitems", "pytest_configure", "pytest_runtest_setup"]  # hooks, found here by pytest

# No deadline: the first example of a law may compile the packet path.
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile(
    "ci",
    deadline=None,
    derandomize=True,
    max_examples=50,  # the same ones each time; `dev` looks for new ones
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))
if not os.access(Path.cwd(), os.W_OK):  # a checkout that belongs to somebody else: nowhere to remember examples
    settings.register_profile("read-only", settings.default, database=None)
    settings.load_profile("read-only")


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """The folder of reference data (elements, measured links, ITU tables); skips where there is none."""
    directory = reference_data_directory()
    if directory is None:
        pytest.skip(skip_for("reference-data", missing("reference-data") or ""))
    return directory
