"""One end of a QUIC download, with aioquic: `server ADDRESS PORT` says "ready"; `client ADDRESS PORT BYTES` fetches.

The client prints how many bytes came and after how many seconds.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import ssl
import sys
import time

from aioquic.asyncio import connect, serve
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

PROTOCOLS = ["download"]


def certified(configuration: QuicConfiguration) -> QuicConfiguration:
    """With a certificate of its own making."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "datacenter")])
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now).not_valid_after(now + dt.timedelta(days=1))
    configuration.certificate, configuration.private_key = made.sign(key, hashes.SHA256()), key
    return configuration


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes(int(await reader.readline())))
    writer.write_eof()


def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    task = asyncio.ensure_future(answer(reader, writer))
    tasks.add(task)
    task.add_done_callback(tasks.discard)


tasks: set[asyncio.Future[None]] = set()


async def be_server(address: str, port: int) -> None:
    configuration = certified(QuicConfiguration(is_client=False, alpn_protocols=PROTOCOLS))
    await serve(address, port, configuration=configuration, stream_handler=handle)
    print("ready", flush=True)
    await asyncio.Event().wait()


async def be_client(address: str, port: int, wanted: int) -> None:
    configuration = QuicConfiguration(is_client=True, alpn_protocols=PROTOCOLS, verify_mode=ssl.CERT_NONE)
    began = time.monotonic()
    async with connect(address, port, configuration=configuration) as connection:
        reader, writer = await connection.create_stream()
        writer.write(f"{wanted}\n".encode())
        writer.write_eof()
        data = await reader.read()
        print(len(data), time.monotonic() - began, flush=True)


if __name__ == "__main__":
    role, where, at, *more = sys.argv[1:]
    asyncio.run(be_server(where, int(at)) if role == "server" else be_client(where, int(at), int(more[0])))
