"""A subscriber written from docs/reference/telemetry.md alone: pyzmq, msgpack and the standard library.

    python bare_subscriber.py TELEMETRY_SOCKET [TOPIC]...

Prints a line of JSON per message, with `missed`, until the bench ends.
"""

from __future__ import annotations

import json
import sys

import msgpack
import zmq


def main() -> int:
    path, *topics = sys.argv[1:]
    expected: dict[str, int] = {}
    with zmq.Context() as context, context.socket(zmq.SUB) as socket:
        socket.linger = 0
        for topic in [*topics, "end"] if topics else [""]:
            socket.subscribe(topic)
        socket.connect(f"ipc://{path}")
        while True:
            topic_frame, packed = socket.recv_multipart()
            message = msgpack.unpackb(packed)
            topic = topic_frame.decode()
            if message["version"] != 1 or message["topic"] != topic:
                return 1
            message["missed"] = message["sequence"] - expected.get(topic, message["sequence"])
            expected[topic] = message["sequence"] + 1
            print(json.dumps(message, default=repr), flush=True)
            if topic == "end":
                return 0


if __name__ == "__main__":
    sys.exit(main())
