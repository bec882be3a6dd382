"""Clients that stop in the middle of a request lose their connection; others do not."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from palitune.serving.request_deadline import protocol_with_deadline

DEADLINE_SECONDS = 0.3
HEADER = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n"


async def echo_slowly(scope: Any, receive: Any, send: Any) -> None:
    """Answer after the deadline with the body of the request."""
    body = b""
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        if not message.get("more_body"):
            break
    await asyncio.sleep(2 * DEADLINE_SECONDS)
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    config = uvicorn.Config(
        echo_slowly,
        port=0,
        lifespan="off",
        log_level="error",
        http=protocol_with_deadline(DEADLINE_SECONDS),
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


@pytest.fixture
def connection(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as opened:
        yield opened


def answer(connection: socket.socket) -> bytes:
    """Return the body of the next answer."""
    received = b""
    while not received.endswith(b"abcd"):
        part = connection.recv(1000)
        assert part, received
        received += part
    return received.rpartition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    "sent", [b"", HEADER[:20], HEADER, HEADER + b"abc"], ids=["nothing", "line", "header", "body"]
)
def test_an_unfinished_request_is_closed(connection: socket.socket, sent: bytes) -> None:
    connection.sendall(sent)
    assert connection.recv(1) == b""


def test_bytes_one_by_one_do_not_move_the_deadline(connection: socket.socket) -> None:
    closed = threading.Event()

    def trickle() -> None:
        while not closed.wait(DEADLINE_SECONDS / 5):
            try:
                connection.sendall(b"a")
            except OSError:
                return

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        assert connection.recv(1) == b""
    except ConnectionResetError:  # a byte arrived after the end
        pass
    finally:
        closed.set()
        thread.join()


def test_answers_may_take_longer_and_connections_are_used_again(connection: socket.socket) -> None:
    for _ in range(2):
        connection.sendall(HEADER + b"abcd")
        assert answer(connection) == b"abcd"
    connection.sendall(HEADER + b"abc")  # the next request is not finished
    assert connection.recv(1) == b""
