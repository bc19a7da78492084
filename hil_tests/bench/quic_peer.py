"""One end of a QUIC download, with aioquic: `server ADDRESS PORT CERTIFICATE KEY`, or `client NAME PORT BYTES`.

The server says "ready".
The client prints what curl's --write-out calls them: seconds until the name was known, until the handshake was done,
until the first byte and until the last, and how many bytes came.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import sys
import time

from aioquic.asyncio import connect, serve
from aioquic.quic.configuration import QuicConfiguration

PROTOCOLS = ["download"]


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes(int(await reader.readline())))
    writer.write_eof()


def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    task = asyncio.ensure_future(answer(reader, writer))
    tasks.add(task)
    task.add_done_callback(tasks.discard)


tasks: set[asyncio.Future[None]] = set()


async def be_server(address: str, port: int, certificate: str, key: str) -> None:
    configuration = QuicConfiguration(
        is_client=False, alpn_protocols=PROTOCOLS, congestion_control_algorithm="cubic", max_datagram_size=1350
    )
    configuration.load_cert_chain(certificate, key)
    await serve(address, port, configuration=configuration, stream_handler=handle)
    print("ready", flush=True)
    await asyncio.Event().wait()


async def be_client(name: str, port: int, wanted: int) -> None:
    configuration = QuicConfiguration(
        is_client=True, alpn_protocols=PROTOCOLS, verify_mode=ssl.CERT_NONE, server_name=name
    )
    began = time.monotonic()
    address = socket.getaddrinfo(name, port, socket.AF_INET, socket.SOCK_DGRAM)[0][4][0]
    seconds = {"time_namelookup": time.monotonic() - began}
    async with connect(str(address), port, configuration=configuration) as connection:
        seconds["time_connect"] = seconds["time_appconnect"] = time.monotonic() - began
        reader, writer = await connection.create_stream()
        writer.write(f"{wanted}\n".encode())
        writer.write_eof()
        data = await reader.read(1)
        seconds["time_starttransfer"] = time.monotonic() - began
        data += await reader.read()
        seconds["time_total"] = time.monotonic() - began
    print(json.dumps({**seconds, "size_download": len(data)}), flush=True)


if __name__ == "__main__":
    role, where, at, *more = sys.argv[1:]
    if role == "server":
        asyncio.run(be_server(where, int(at), *more))
    else:
        asyncio.run(be_client(where, int(at), int(more[0])))
