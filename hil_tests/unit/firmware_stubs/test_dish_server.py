"""A dish that is asked by many at once, by some of them badly: whoever asks as clients do is answered."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from emulator.scenario.model import Dish
from emulator.terminal import Terminal
from emulator.terminal.dish import DishTerminal
from firmware_stubs.dish_messages import message
from firmware_stubs.registry import NETWORK_KINDS, NetworkServer

PATIENCE_S = 30
HANDLE, STREAM = "/SpaceX.API.Device.Device/Handle", "/SpaceX.API.Device.Device/Stream"
REQUEST, RESPONSE = message("Request"), message("Response")
STATUS = REQUEST(get_status={}).SerializeToString()


@pytest.fixture
def served() -> Iterator[NetworkServer]:
    dish = DishTerminal(Dish(), Terminal(48.5, -123.3, 20.0), time.time_ns())
    server = NETWORK_KINDS["dish"].serve(dish, "127.0.0.1", 0, time.time_ns)
    yield server
    server.stop()


def channel(served: NetworkServer) -> grpc.Channel:
    options = [("grpc.use_local_subchannel_pool", 1)]  # a connection of its own
    return grpc.insecure_channel(f"{served.host}:{served.port}", options=options)


def test_two_clients_at_once_are_answered_each(served: NetworkServer) -> None:
    with channel(served) as one, channel(served) as other:
        calls = [(one if number % 2 else other).unary_unary(HANDLE) for number in range(16)]
        waiting = [call.future(REQUEST(id=number, get_status={}).SerializeToString(), timeout=PATIENCE_S)
                   for number, call in enumerate(calls)]  # fmt: skip
        assert [RESPONSE.FromString(answer.result()).id for answer in waiting] == list(range(16))


def test_those_who_do_not_read_ask_nonsense_or_say_nothing_keep_nobody_from_an_answer(served: NetworkServer) -> None:
    ask = message("ToDevice")(request=REQUEST(get_history={})).SerializeToString()
    over = threading.Event()

    def many() -> Iterator[bytes]:
        for _ in range(2_000):  # of which a history each would be some 40 MB
            if over.is_set():
                return
            yield ask
        over.wait(PATIENCE_S)

    with contextlib.ExitStack() as stack:
        for port in (served.port, served.web_port):
            for noise in (
                b"",
                b"POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00",
            ):
                silent = stack.enter_context(socket.create_connection((served.host, port), PATIENCE_S))
                silent.sendall(noise)
        deaf = stack.enter_context(channel(served)).stream_stream(STREAM)(many())
        stack.callback(deaf.cancel)
        stack.callback(over.set)
        next(iter(deaf))  # the first of them, and then no more
        with channel(served) as good:
            call = good.unary_unary(HANDLE)
            for noise in (b"\xff\xff\xff", b"", bytes(65_536 + 1), b"\xfa\xff\xff\xff\x0f"):
                with pytest.raises(grpc.RpcError) as refused:
                    call(noise, timeout=PATIENCE_S)
                assert refused.value.code() in (
                    grpc.StatusCode.INTERNAL, grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED,
                )  # fmt: skip
            assert RESPONSE.FromString(call(STATUS, timeout=PATIENCE_S)).HasField("dish_get_status")
            with pytest.raises(grpc.RpcError) as refused:
                good.unary_unary("/SpaceX.API.Device.Device/Nothing")(b"", timeout=PATIENCE_S)
            assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
