"""Makes the pages on control and telemetry from the models in emulator/control: reference_pages.py writes them."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen
from pydantic.fields import FieldInfo

from emulator.control.model import COMMANDS, Command, Timed
from emulator.control.topics import TOPICS

CONTROL_INTRO = """\
Every running bench answers at `control.ipc` in its runtime directory, a ZeroMQ socket over `ipc://` that only its own
user can reach. [`bentpipe ctl`](commands.md#bentpipe-ctl) and [`bentpipe inject`](injection.md) are clients of it, and
so is `emulator.Control` in Python; so may be any program, in any language that has ZeroMQ and msgpack
(`hil_tests/clients/bare_controller.py` is one, written from this page).

- The runtime directories are in `$BENTPIPE_RUNTIME_DIR`, else `/run/bentpipe` (root), `$XDG_RUNTIME_DIR/bentpipe` or
  `/tmp/bentpipe-UID`. Each holds `bench.json`: `pid`, `scenario`, addresses, `started_utc`.
- Connect a REQ socket (or a DEALER). One msgpack map per request, one per reply, at most 1 MiB each. Requests are
  answered one at a time, in the order in which they come; whatever arrives, something is answered. A client may make
  5000 requests per second; what is beyond that is refused.

```
request   {"version": 1, "verb": "fade", "fade_db": 12.0, "at": "next-slot", "author": "ci"}
reply     {"version": 1, "ok": true,  "result": {…}}
          {"version": 1, "ok": false, "kind": "ScenarioError", "error": "fade: fade_db: …"}
```

`kind` is the name of an error of `emulator/errors.py`, or `MessageError` for a request that is not one; `error` has a
line per fault. Keys that a verb does not know are refused, and so is another version. `author` is noted in the
[event log](telemetry.md#the-event-log). Numbers must be numbers, and text UTF-8.

## When a command takes effect

`at` says when: `now`, a UTC (`2026-01-01T00:00:27Z`), `+SECONDS`, `next-slot`, `next-handover`, `next-outage` or
`next-contact`. A UTC is the simulated one, as it runs when the command is accepted: a later `jump` does not move what
is scheduled. Each timed command is answered with

| key | |
|---|---|
| `number` | of the command: `clear` ends it by this number |
| `monotonic_ns`, `utc_ns` | when it takes effect: on the packets' clock (Linux CLOCK_MONOTONIC) and in simulated UTC |
| `scheduled` | whether that is still to come |
| `late_ns` | by how much that is later than what was asked for; 0 if it is in time |

What acts on delay, rate, loss and gates, and what moves simulated UTC or changes the plan, is exact to the nanosecond
of the packets' clock: a packet whose service begins before the instant meets the link as it was, every later one as it
is from then on. `now` is 5 ms after the command was accepted, so that it holds from its own beginning, and where it
takes planning (`handover`, `pin`, `jump`) after that. `limit`, `mark`, `capture` and `stop` take effect when a thread
gets to it, a millisecond later or so on a quiet machine, and are answered with the time at which they did. A scheduled
command is noted in the event log once when it is accepted, and once when it is done, with how late it was.

`next-outage` and `next-contact` are searched for 3 s at most.
"""

SECURITY = """\
## Other machines

`bentpipe run --control tcp://0.0.0.0:5600 --keys DIRECTORY` lets other machines in, each with a key that is on an
allow-list ([`bentpipe keys`](commands.md#bentpipe-keys)); without keys, `tcp://` is refused. The connection is
encrypted and both ends are known to each other (CURVE, RFC 26 of ZeroMQ). The role of a verb, above, says who may give
it: `control` may also do what `observe` may; `packets` is apart. An allow-list is read at each request: who is taken
off is out at once. The local socket needs no key: who can open it is the bench's own user.

```console
$ bentpipe keys lab                            # server.key, server.key_secret
$ bentpipe keys lab ci --role control          # ci.key_secret and server.key go to the other machine
$ bentpipe ctl --endpoint tcp://bench:5600 --keys ~/lab state
```

## From Python

```python
import emulator

with emulator.Control() as bench:  # the one running bench; or a pid, a path, an endpoint
    bench.outage(5.0, at="+2")
    print(bench.state()["downlink"])
```

Every verb is a method with the fields as its arguments; `emulator.Bench` has the same.

"""


TELEMETRY_INTRO = """\
Every running bench publishes what happens at `telemetry.ipc` in its runtime directory (see [control](control.md)), a
ZeroMQ XPUB socket over `ipc://` that only its own user can reach. [`bentpipe watch`](commands.md#bentpipe-watch) is a
subscriber; so may be any program that has ZeroMQ and msgpack (`hil_tests/clients/bare_subscriber.py` is one, written
from this page). `bentpipe run --telemetry tcp://… --keys DIRECTORY` publishes to other machines, to keys with the role
`observe` or `control`.

Connect a SUB socket and subscribe to topics, or to everything with the empty prefix. A message has two frames: the
topic as text, and one msgpack map:

| key | |
|---|---|
| `version` | 1 |
| `topic` | as in the first frame |
| `sequence` | counts the messages of this topic from 0: a gap is what you have missed |
| `utc_ns`, `monotonic_ns` | when it happened, in simulated UTC and on the packets' clock; not when it was sent |
| `author` | who gave a command; empty for what the link does by itself |
| `data` | a map, by topic |

What the plan or a command changes is told with the exact time of the change, up to 250 ms after it. A subscriber that
does not read loses messages once 1000 wait for it, and never slows the packets or the other subscribers. Who subscribes
late gets a `snapshot`, if it subscribed to that topic; the verb `snapshot` of the control socket answers with the same.

## Topics
"""

EVENT_LOG = """\
## The event log

Each run writes its events, those of the topics above that are marked so, to `events.jsonl` in its runtime directory,
which goes with the bench, and to the file of `bentpipe run --log FILE`: one JSON object per line, with `utc` (ISO
8601), `kind` (the topic), `utc_ns`, `monotonic_ns`, `author` and `data`. The one in the runtime directory begins anew
at 32 MiB, and keeps one behind it. Lines that a full disk does not take are lost; the run goes on.

"""


def telemetry_page(made: str) -> str:
    """docs/reference/telemetry.md."""
    lines = [made, "# Telemetry and events", "", TELEMETRY_INTRO]
    lines += ["| topic | when | data | in the log |", "|---|---|---|---|"]
    for name, topic in TOPICS.items():
        lines.append(f"| `{name}` | {topic.when} | {topic.data} | {'yes' if topic.logged else ''} |")
    return "\n".join(lines) + "\n\n" + EVENT_LOG.rstrip() + "\n"


def control_page(made: str) -> str:
    """docs/reference/control.md."""
    lines = [made, "# The control socket", "", CONTROL_INTRO, "## Verbs", ""]
    lines += ["| verb | role | |", "|---|---|---|"]
    lines += [f"| [`{verb}`](#{verb}) | {one.role} | {_first_line(one)} |" for verb, one in COMMANDS.items()]
    for verb, command in COMMANDS.items():
        lines += ["", f"### {verb}", "", _first_line(command), ""]
        own = list(_rows(command))
        if own:
            lines += ["| key | takes | default | |", "|---|---|---|---|", *own, ""]
        if command.answer:
            lines.append(f"Result{' beside the above' if issubclass(command, Timed) else ''}: {command.answer}.")
    lines += ["", "Gates and causes are given by name (`emulator/timeline/causes.py`), times are ns.", ""]
    return "\n".join(lines) + "\n" + SECURITY.rstrip() + "\n"


def _first_line(command: type[Command]) -> str:
    return " ".join((command.__doc__ or "").split())


def _rows(command: type[Command]) -> Iterator[str]:
    for name, field in command.model_fields.items():
        default = "required" if field.is_required() else _default(field)
        yield f"| `{name}` | {_takes(field)} | {default} | {field.description or ''} |"


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    return "none" if value is None or value == {} else f"`{value}`"


def _takes(field: FieldInfo) -> str:
    annotation: Any = field.annotation
    options = [one for one in get_args(annotation) if one is not type(None)]
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = options[0]
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{one}`" for one in get_args(annotation))
    if get_origin(annotation) is list:
        return "a list of bytes"
    if get_origin(annotation) is dict or annotation.__name__ == "OverlayEvent":
        return "a map"
    names = {str: "text", bytes: "bytes", int: "a whole number", float: "a number"}
    bounds = " ".join(filter(None, map(_bound, field.metadata)))
    return f"{names.get(annotation, 'text')} {bounds}".strip()


def _bound(one: object) -> str:
    match one:
        case Gt(gt=value):
            return f"above {value:g}"
        case Ge(ge=value):
            return f"from {value}"
        case Le(le=value) | Lt(lt=value):
            return f"to {value:g}"
        case MaxLen(max_length=value):
            return f"of at most {value} characters"
    return ""
