"""gRPC-Web over HTTP/1.1, for clients in browsers: the framing, sans-I/O, and a small server of one method.

A frame is a flag byte, four bytes of length and the data; flag 0x80 marks the trailers, which a browser could not read
otherwise. Binary and base64 (`-text`) bodies.
"""

from __future__ import annotations

import base64
import binascii
import selectors
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import quote

from emulator import __version__
from firmware_stubs.dish import Answer, Code
from firmware_stubs.dish_messages import SERVICE

PATH = f"/{SERVICE}/Handle"
MOST_BYTES = 1 << 16
PATIENCE_S = 10.0
MOST_CLIENTS = 32
TRAILERS = 0x80


def request_of(body: bytes, *, text: bool) -> bytes | None:
    """The message in a request's body; None if it is not one whole frame."""
    if text:
        try:
            body = base64.b64decode(body, validate=True)
        except binascii.Error:
            return None
    if len(body) < 5 or body[0] != 0 or int.from_bytes(body[1:5], "big") != len(body) - 5:
        return None
    return body[5:]


def response_of(answer: Answer, *, text: bool) -> bytes:
    """The body of a response: the message, if there is one, and the trailers."""
    trailers = f"grpc-status:{int(answer.code)}\r\n"
    if answer.text:
        trailers += f"grpc-message:{quote(answer.text, safe=' !#$&()*+,-./:;<=>?@[]^_`{|}~')}\r\n"
    body = _frame(0, answer.data) if answer.code is Code.OK else b""
    body += _frame(TRAILERS, trailers.encode("ascii"))
    return base64.b64encode(body) if text else body


def _frame(flag: int, data: bytes) -> bytes:
    return bytes([flag]) + len(data).to_bytes(4, "big") + data


class WebServer:
    """Serves gRPC-Web on a listening socket, which it owns; each request goes to `answer`."""

    def __init__(self, listener: socket.socket, answer: Callable[[bytes], Answer]) -> None:
        places = threading.BoundedSemaphore(MOST_CLIENTS)

        class Handler(_Handler):
            pass

        Handler.answer = staticmethod(answer)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            timeout = 1.0  # for who was there, and has gone before he was let in

            def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client: object) -> None:
                if places.acquire(blocking=False):
                    super().process_request(request, client)
                else:
                    self.shutdown_request(request)

            def process_request_thread(
                self, request: socket.socket | tuple[bytes, socket.socket], client: object
            ) -> None:
                try:
                    super().process_request_thread(request, client)
                finally:
                    places.release()

            def handle_error(self, request: object, client: object) -> None:
                """A client that goes away in the middle is nothing to tell of."""

        self._server = Server(listener.getsockname()[:2], Handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = listener
        self._ending, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._serve, name="stub dish gRPC-Web", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        """Sleeps until somebody comes: `serve_forever` would look for its end all the time, and dishes are many."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._server, selectors.EVENT_READ)
            selector.register(self._ending, selectors.EVENT_READ)
            while not any(key.fileobj is self._ending for key, _ in selector.select()):
                self._server.handle_request()

    def stop(self) -> None:
        self._end.close()  # which the thread reads as the end
        self._thread.join()
        self._ending.close()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = f"bentpipe/{__version__}"
    timeout = PATIENCE_S
    answer: Callable[[bytes], Answer]

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        kind = self.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if not (length.isascii() and length.isdigit()) or int(length) > MOST_BYTES:
            self.close_connection = True
            self._refuse(413)
            return
        body = self.rfile.read(int(length))
        if not kind.startswith("application/grpc-web"):
            self._refuse(415)
            return
        text = kind.startswith("application/grpc-web-text")
        if self.path != PATH:
            answer = Answer(Code.UNIMPLEMENTED, f"unknown method {self.path[:100]}", b"")
        else:
            request = request_of(body, text=text)
            answer = (
                self.answer(request)
                if request is not None
                else Answer(Code.INTERNAL, "expected one whole gRPC-Web frame", b"")
            )
        data = response_of(answer, text=text)
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self._allow()
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_OPTIONS(self) -> None:
        """A browser asks first whether it may ask."""
        self.send_response(204)
        self._allow()
        self.send_header("Access-Control-Allow-Methods", "POST, OPTIONS")
        self.send_header("Access-Control-Allow-Headers", "content-type, x-grpc-web, x-user-agent, grpc-timeout")
        self.end_headers()

    def _allow(self) -> None:
        self.send_header("Access-Control-Allow-Origin", "*")
        self.send_header("Access-Control-Expose-Headers", "grpc-status, grpc-message")

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (the base's name)
        """Nothing: a dish does not tell on our stderr who asked it."""
