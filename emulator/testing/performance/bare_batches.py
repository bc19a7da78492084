"""What ZeroMQ alone carries: batches as the fabric sends them, by ipc:// through three processes and nothing else.

python -m …bare_batches send|hop DIRECTORY        until standard input ends
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import zmq

from emulator.child import child_command
from emulator.errors import EmulationError

BATCH_BYTES = 8 * (8 + 2) + 8 * 65_536  # eight super-packets
WAITING = 64
PATIENCE_MS = 10_000


def bare_batches(seconds: float) -> dict[str, Any]:
    """How many bits of such batches came through in a second. Raises EmulationError if none comes."""
    with tempfile.TemporaryDirectory(prefix="bp") as directory, zmq.Context() as context:
        module = "emulator.testing.performance.bare_batches"
        others = [Popen(child_command(module, role, directory), stdin=PIPE) for role in ("send", "hop")]
        try:
            with context.socket(zmq.PULL) as last:
                last.setsockopt(zmq.RCVHWM, WAITING)
                last.bind(f"ipc://{directory}/last")
                if not last.poll(PATIENCE_MS):
                    raise EmulationError("bare ZeroMQ sockets: nothing came")
                begun_s, taken = time.monotonic(), 0
                while (took_s := time.monotonic() - begun_s) < seconds:
                    if last.poll(100):
                        taken += len(last.recv())
                return {"goodput_bps": 8 * taken / took_s}
        finally:
            for other in others:
                assert other.stdin is not None
                other.stdin.close()
            for other in others:
                other.wait()


def _until_standard_input_ends(ended: threading.Event) -> None:
    sys.stdin.read()
    ended.set()


def main() -> None:
    role, directory = sys.argv[1], Path(sys.argv[2])
    context: zmq.Context[Any] = zmq.Context()
    out = context.socket(zmq.PUSH)
    for option in (zmq.SNDHWM, zmq.RCVHWM):
        out.setsockopt(option, WAITING)
    ended = threading.Event()
    threading.Thread(target=_until_standard_input_ends, args=(ended,), daemon=True).start()
    if role == "send":
        out.connect(f"ipc://{directory}/first")
        batch = bytes(BATCH_BYTES)
        while not ended.is_set():
            if out.poll(100, zmq.POLLOUT):
                out.send(batch)
    else:
        first = context.socket(zmq.PULL)
        first.setsockopt(zmq.RCVHWM, WAITING)
        first.bind(f"ipc://{directory}/first")
        out.connect(f"ipc://{directory}/last")
        while not ended.is_set():
            if first.poll(100) and out.poll(100, zmq.POLLOUT):
                out.send(first.recv())
    context.destroy(linger=0)


if __name__ == "__main__":
    main()
