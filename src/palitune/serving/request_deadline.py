"""Deadline for the arrival of requests: clients that stop sending do not keep connections open."""

import asyncio
from typing import Any, ClassVar

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


def protocol_with_deadline(seconds: float) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol with a deadline.

    Args:
        seconds: Time until a request with its body has arrived, from the opening of the connection
            or, in a connection that is used again, from the first byte.
    """
    return type("_LimitedProtocol", (_DeadlineProtocol,), {"seconds": seconds})


class _DeadlineProtocol(H11Protocol):
    """Closes a connection whose request does not arrive in time.

    uvicorn itself only closes connections that are idle after an answer.
    """

    seconds: ClassVar[float]
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.seconds, transport.close)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state not in (h11.IDLE, h11.SEND_BODY):
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self.transport.close)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
