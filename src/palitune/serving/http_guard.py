"""Limits in front of the routes: size of a request, and the API key."""

import logging
import secrets
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from palitune.errors import DataError, ModelError, one_line, shorten

_logger = logging.getLogger(__name__)

OPEN_PATHS = ("/", "/docs", "/health")
"""Paths without a key: pages, which ask for it or say so, and the probe of a load balancer."""
MAX_MESSAGE_CHARACTERS = 500
CLIENT_GONE = 499
"""Status in the metrics of a request whose client has gone, as nginx counts it."""


def error_response(
    status: int, message: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    """Return an error in OpenAI's format."""
    return JSONResponse(error_content(status, message), status_code=status, headers=headers)


def error_content(status: int, message: str) -> dict[str, Any]:
    """Return the body of an error in OpenAI's format; its message is one line of bounded length."""
    message = shorten(one_line(message), MAX_MESSAGE_CHARACTERS)
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {"error": {"message": message, "type": kind, "code": status}}


def describe_error(error: Exception) -> tuple[int, str]:
    """Return status and message of an error; a fault of ours is logged, and its text kept back."""
    if isinstance(error, HTTPException):
        return error.status_code, str(error.detail)
    if isinstance(error, DataError | ModelError):
        return 400, str(error)
    if isinstance(error, ClientDisconnect):
        return CLIENT_GONE, "the client has gone."
    _logger.error("a request failed", exc_info=error)
    return 500, "internal error; the server's log has the details."


class HttpGuard:
    """ASGI middleware that refuses a request without the key, or one that is too large.

    Args:
        app: The application behind it.
        api_key: Key of `Authorization: Bearer KEY`; None: none is needed.
        max_bytes: Most bytes of a request body, also of one without Content-Length.
    """

    def __init__(self, app: Any, api_key: str | None, max_bytes: int) -> None:
        self.app, self.api_key, self.max_bytes = app, api_key, max_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value for name, value in scope["headers"]}
        if not self._is_authorized(scope["path"], headers.get("authorization", b"")):
            refused = error_response(401, "api_key is wrong or missing. Send Authorization.")
            await refused(scope, receive, send)
            return
        length = headers.get("content-length", b"0")
        if not length.isdigit() or int(length[:20]) > self.max_bytes:
            await error_response(413, self._too_large())(scope, receive, send)
            return
        await self._run_limited(scope, receive, send)

    async def _run_limited(self, scope: Any, receive: Any, send: Any) -> None:
        """Run the application, and stop reading a body without Content-Length at the limit."""
        received, started = 0, False

        async def limited_receive() -> Any:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.max_bytes:
                raise _BodyTooLargeError
            return message

        async def noting_send(message: Any) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, limited_receive, noting_send)
        except _BodyTooLargeError:
            if not started:
                await error_response(413, self._too_large())(scope, receive, send)

    def _is_authorized(self, path: str, authorization: bytes) -> bool:
        if self.api_key is None or path in OPEN_PATHS or path.startswith("/static/"):
            return True
        expected = f"Bearer {self.api_key}".encode()
        return secrets.compare_digest(authorization, expected)

    def _too_large(self) -> str:
        return f"the request must have at most {self.max_bytes} bytes. Send smaller images."


class _BodyTooLargeError(Exception):
    pass
