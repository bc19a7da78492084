"""The dish on the network: gRPC with server reflection, and gRPC-Web one port above it. It alone here opens sockets.

How to read it: `DishServer.start` opens both ports; `follow` is called from time to time, because a dish that boots
answers nobody: the ports close, and open again. gRPC calls come in threads of gRPC's own, one request at a time takes
the dish's lock, and a client that does not read, or opens streams without end, is refused at a bound.
"""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import DecodeError
from grpc_reflection.v1alpha import reflection, reflection_pb2

from emulator.errors import EndpointError
from emulator.terminal.dish import DishTerminal
from firmware_stubs.dish import UNREADABLE, Answer, Code, DishStub
from firmware_stubs.dish_messages import SERVICE, message, pool
from firmware_stubs.dish_web import WebServer
from firmware_stubs.registry import Place

REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"  # the same bytes under another name
MOST_CALLS = 32  # at once; one more is refused with RESOURCE_EXHAUSTED
GRACE_S = 0.2  # what a reply under way gets when the ports close
OPTIONS = [
    ("grpc.http2.bdp_probe", 0),  # a fifth of what a call costs, to find windows for more than a dish ever says
    ("grpc.so_reuseport", 0),  # a second dish on the same port must fail
    ("grpc.max_receive_message_length", 1 << 16),
    ("grpc.max_concurrent_streams", MOST_CALLS),
]
_CODES = {code.value[0]: code for code in grpc.StatusCode}

log = logging.getLogger("bentpipe.stub")


def here(work: Callable[[], Any]) -> Any:
    """The place where the process is: `work` is done as it is."""
    return work()


class DishServer:
    """`dish` at `host`: gRPC on `port`, gRPC-Web on the next one (port 0: two free ones). Use as a context.

    `place` does work where the address is, such as `Namespace.run`. Raises EndpointError if a port cannot be had.
    """

    def __init__(
        self,
        dish: DishTerminal,
        host: str,
        port: int,
        utc_ns: Callable[[], int],
        *,
        place: Place = here,
        commanded: Callable[[], None] = lambda: None,
    ) -> None:
        self.host, self.port, self.web_port = host, port, port + 1 if port else 0
        self._dish, self._utc_ns, self._place = dish, utc_ns, place
        self._stub = DishStub(dish, commanded)
        self._to_device, self._from_device = message("ToDevice"), message("FromDevice")
        self._undo = contextlib.ExitStack()
        self._open = False

    def start(self) -> Self:
        """Opens the ports, unless the dish answers nobody: then they are opened by `follow`."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError as error:
            raise EndpointError(f"{self.host}: expected an IP address to serve the dish at") from error
        self.follow()
        return self

    def follow(self) -> None:
        """Closes the ports when the dish goes away, opens them when it comes back."""
        with self._dish.lock:
            self._dish.advance(self._utc_ns())
            wanted = self._dish.reachable
        if wanted and not self._open:
            self._listen()
        elif not wanted and self._open:
            self._close()

    def stop(self) -> None:
        """Closes the ports. Twice is allowed."""
        self._close()

    def _listen(self) -> None:
        with contextlib.ExitStack() as undo:
            listener = undo.enter_context(contextlib.closing(self._listener()))
            server = grpc.server(
                ThreadPoolExecutor(MOST_CALLS, thread_name_prefix="stub dish"),
                options=OPTIONS,
                maximum_concurrent_rpcs=MOST_CALLS,
            )
            handle = grpc.unary_unary_rpc_method_handler(self._handle)  # bytes in, bytes out
            stream = grpc.stream_stream_rpc_method_handler(self._stream)
            server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(SERVICE, {"Handle": handle, "Stream": stream}),)
            )
            _reflect(server)
            where = f"[{self.host}]" if ":" in self.host else self.host
            try:
                self.port = self._place(lambda: server.add_insecure_port(f"{where}:{self.port}"))
            except RuntimeError as error:
                raise EndpointError(f"{where}:{self.port}: the address is in use, or is none of ours") from error
            server.start()
            undo.callback(lambda: server.stop(GRACE_S).wait())
            self.web_port = listener.getsockname()[1]
            undo.callback(WebServer(listener, self._answer).stop)
            self._undo = undo.pop_all()
        self._open = True

    def _listener(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            listener: socket.socket = self._place(
                lambda: socket.create_server((self.host, self.web_port), family=family)
            )
        except OSError as error:
            raise EndpointError(f"{self.host}:{self.web_port}: cannot listen here: {error.strerror}") from error
        return listener

    def _close(self) -> None:
        self._open = False
        self._undo.close()

    # calls

    def _answer(self, data: bytes) -> Answer:
        try:
            return self._stub.answer(data, self._utc_ns())
        except Exception:  # a defect of the stub: the client hears that there is one, and so do we
            log.exception("the dish stub failed")
            return Answer(Code.INTERNAL, "internal error", b"")

    def _handle(self, data: bytes, context: Any) -> bytes:
        answer = self._answer(data)
        if answer.code is not Code.OK:
            context.abort(_CODES[int(answer.code)], answer.text)
        return answer.data

    def _stream(self, messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        """The newer method: requests and responses, each in an envelope, for as long as the client likes."""
        for data in messages:
            try:
                request = self._to_device.FromString(data).request
            except DecodeError:
                context.abort(grpc.StatusCode.INTERNAL, UNREADABLE)  # which raises
                raise
            response = message("Response").FromString(self._handle(request.SerializeToString(), context))
            yield self._from_device(response=response).SerializeToString()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _reflect(server: Any) -> None:
    """Server reflection, in both of its versions."""
    names = (SERVICE, REFLECTION_V1, REFLECTION)
    answers = reflection.ReflectionServicer(names, pool=pool())
    method = grpc.stream_stream_rpc_method_handler(
        answers.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handlers = [
        grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method})
        for name in (REFLECTION, REFLECTION_V1)
    ]
    server.add_generic_rpc_handlers(tuple(handlers))
