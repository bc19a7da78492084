"""What the plugin does before pytest begins: an ordinary user keeps the name that a user namespace takes."""

from __future__ import annotations

import pwd

import pytest

from emulator.testing.plugin.settings import keep_name

NOBODY = pwd.getpwnam("nobody")


@pytest.mark.parametrize(
    ("environment", "uid", "named"),
    [
        ({}, NOBODY.pw_uid, NOBODY.pw_name),
        ({"LOGNAME": ""}, NOBODY.pw_uid, NOBODY.pw_name),
        ({}, 4_000_000_001, "4000000001"),
        ({}, 0, None),
        ({"USER": "somebody"}, NOBODY.pw_uid, None),
    ],
)
def test_the_name_is_written_down_where_nothing_tells_it(
    environment: dict[str, str], uid: int, named: str | None
) -> None:
    keep_name(environment, uid)
    assert environment.get("LOGNAME") == named
