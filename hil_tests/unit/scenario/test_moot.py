"""Keys without effect are told, and refuse nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emulator.cli.main import run
from emulator.ports.assembly import link_options
from emulator.scenario import embedded_scenarios, load_scenario
from emulator.scenario.moot import DISCIPLINES_OF, moot_keys

DISCIPLINES = st.sampled_from(["drop_tail", "drop_front", "codel", "pie", "fq_codel"])
VALUES = {"queue_target_ms": "7", "queue_interval_ms": "50", "queue_flows": "16", "ecn": "true"}


@pytest.mark.parametrize("name", embedded_scenarios())
def test_no_embedded_scenario_says_anything_in_vain(name: str) -> None:
    assert moot_keys(load_scenario(name)) == []


@given(
    DISCIPLINES, st.none() | DISCIPLINES, st.none() | DISCIPLINES,
    st.sampled_from(sorted(DISCIPLINES_OF)), st.sampled_from(["link", "link.uplink", "link.downlink"]),
)  # fmt: skip
def test_a_key_of_the_queue_is_moot_where_its_discipline_rules_nowhere(
    both: str, up: str | None, down: str | None, key: str, table: str
) -> None:
    said = [f"link.queue_discipline={both}", f"{table}.{key}={VALUES[key]}"]
    said += [f"link.{way}.queue_discipline={own}" for way, own in (("uplink", up), ("downlink", down)) if own]
    scenario = load_scenario("fixed", said)
    ruling = {"link.uplink": [up or both], "link.downlink": [down or both], "link": [up or both, down or both]}[table]
    moot = not set(ruling) & set(DISCIPLINES_OF[key])
    assert [line.partition(":")[0] for line in moot_keys(scenario)] == ([f"{table}.{key}"] if moot else [])
    assert link_options(scenario, "uplink", 1).lanes[-1].discipline == (up or both)


def test_a_class_behind_one_that_takes_all_is_told() -> None:
    def told(*classes: str) -> list[str]:
        return moot_keys(load_scenario("fixed", [f"classes[{number}]={one}" for number, one in enumerate(classes)]))

    voice, rest, up = "{name='v',protocols=['udp']}", "{name='rest'}", "{name='up',direction='uplink'}"
    assert told(voice, rest) == []
    assert told(up, voice) == []
    assert told(rest, voice) == ["classes[1]: no effect: classes[0] stands before it and takes every packet"]
    assert told(up, "{name='w',direction='uplink',dscp=[4]}") == [
        "classes[1]: no effect: classes[0] stands before it and takes every packet"
    ]
    assert told("{name='v',protocols=['udp'],ecn=true}") == [
        "classes[0].ecn: no effect: expected queue_discipline 'codel' or 'fq_codel' or 'pie', got 'drop_tail'"
    ]


def test_the_shape_of_a_jitter_that_is_not_there_is_told() -> None:
    shape = "link.jitter={spread=3}"
    assert moot_keys(load_scenario("fixed", [shape])) == [
        "link.jitter: no effect: it is the shape of jitter_ms, which is 0"
    ]
    assert moot_keys(load_scenario("fixed", [shape, "link.uplink.jitter_ms=2"])) == []
    later = "overlay[0]={kind='jitter',at_s=1,duration_s=1,jitter_ms=2}"
    assert moot_keys(load_scenario("fixed", [shape, later])) == []


def test_a_command_tells_of_it_and_goes_on(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["plan", "fixed", "--duration", "1s", "--set", "link.ecn=true", "-o", str(tmp_path / "p.csv")]) == 0
    told = "bentpipe: fixed: link.ecn: no effect: expected queue_discipline 'codel' or 'fq_codel' or 'pie', got"
    assert told in capsys.readouterr().err
