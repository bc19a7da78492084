"""A controller written from docs/reference/control.md alone: pyzmq, msgpack and the standard library.

python bare_controller.py CONTROL_SOCKET VERB [JSON [PACKET...]]

PACKET: the bytes of an IP packet to inject, in hex.
"""

from __future__ import annotations

import json
import sys

import msgpack
import zmq


def main() -> int:
    path, verb, *rest = sys.argv[1:]
    request = {"version": 1, "verb": verb, "author": "bare", **json.loads(rest[0] if rest else "{}")}
    if rest[1:]:
        request["packets"] = [bytes.fromhex(packet) for packet in rest[1:]]
    with zmq.Context() as context, context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(f"ipc://{path}")
        socket.send(msgpack.packb(request))
        if not socket.poll(20_000):
            return 1
        reply = msgpack.unpackb(socket.recv())
    print(json.dumps(reply, default=repr))
    return 0 if reply["ok"] else 3


if __name__ == "__main__":
    sys.exit(main())
