"""The part of OpenAI's chat API that fits a model without turns: one user message, one answer.

The text of the message is the prompt, verbatim; PaliGemma has no chat template. Requests follow
https://platform.openai.com/docs/api-reference/chat. Fields that do not apply are ignored.
"""

import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from palitune.errors import DataError
from palitune.serving.batching import Answer
from palitune.serving.http_guard import describe_error, error_content
from palitune.serving.requests import PredictBody


class ImageUrl(BaseModel):
    url: str


class ContentPart(BaseModel):
    """A text or an image of a message."""

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: ImageUrl | None = None


class Message(BaseModel):
    role: str
    content: str | list[ContentPart]


class StreamOptions(BaseModel):
    include_usage: bool = False
    """End the stream with the numbers of tokens."""


class ChatBody(BaseModel):
    """A chat completion request; greedy decoding, whatever the temperature."""

    model_config = ConfigDict(extra="allow")

    model: str = ""
    """Adapter that answers; empty: the first one."""
    messages: list[Message] = Field(min_length=1, max_length=64)
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    n: int = 1
    stream: bool = False
    stream_options: StreamOptions | None = None


def to_predict_body(chat: ChatBody) -> PredictBody:
    """Return prompt and images of a chat. Raises DataError if it has turns or several answers."""
    if chat.n != 1:
        raise DataError(f"n must be 1, got {chat.n}: decoding is greedy.")
    if len(chat.messages) != 1 or chat.messages[0].role != "user":
        raise DataError(
            "messages must be one message of the user: PaliGemma answers one prompt and has no "
            "system message and no turns."
        )
    content = chat.messages[0].content
    parts = [ContentPart(type="text", text=content)] if isinstance(content, str) else content
    texts = [part.text or "" for part in parts if part.type == "text"]
    urls = [part.image_url.url for part in parts if part.image_url is not None]
    return PredictBody(
        images=urls,
        prompt="\n".join(texts),
        adapter=chat.model or None,
        max_new_tokens=chat.max_completion_tokens or chat.max_tokens,
    )


def completion(
    model: str, text: str, *, finished: bool, usage: dict[str, int], extra: Any
) -> dict[str, Any]:
    """Return a chat completion.

    Args:
        model: Name of the adapter.
        text: The answer.
        finished: False if the token limit cut it off.
        usage: Numbers of tokens, from `usage`.
        extra: Parsed answer, in the field `palitune`.
    """
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": _finish_reason(finished),
        "logprobs": None,
    }
    return {
        **_head("chat.completion", model),
        "choices": [choice],
        "usage": usage,
        "palitune": extra,
    }


async def stream_events(
    model: str,
    items: AsyncIterator[str | Answer],
    usage_of: Callable[[Answer], dict[str, int]] | None,
) -> AsyncIterator[str]:
    """Yield the server-sent events of a streamed completion: role, pieces of text, end, usage.

    Args:
        model: Name of the adapter.
        items: Pieces of text as they are generated, then the answer.
        usage_of: Counts the tokens of a request with its answer; None: they were not requested.
    """
    head = _head("chat.completion.chunk", model)

    def event(delta: dict[str, str], reason: str | None = None) -> str:
        return _event(head | {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]})

    yield event({"role": "assistant", "content": ""})
    try:
        async for item in items:
            if isinstance(item, str):
                yield event({"content": item})
                continue
            yield event({}, _finish_reason(item.prediction.finished))
            if usage_of is not None:
                yield _event(head | {"choices": [], "usage": usage_of(item)})
        yield "data: [DONE]\n\n"
    except Exception as error:  # the status is sent already
        yield _event(error_content(*describe_error(error)))


def usage(prompt_tokens: int, answer_tokens: int) -> dict[str, int]:
    """Return the numbers of tokens of a prompt with its images, and of its answer."""
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": answer_tokens,
        "total_tokens": prompt_tokens + answer_tokens,
    }


def model_list(names: list[str]) -> dict[str, Any]:
    """Return the answer to `/v1/models`."""
    return {
        "object": "list",
        "data": [
            {"id": name, "object": "model", "created": 0, "owned_by": "palitune"} for name in names
        ],
    }


def _head(kind: str, model: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{uuid.uuid4().hex}",
        "object": kind,
        "created": int(time.time()),
        "model": model,
    }


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"


def _finish_reason(finished: bool) -> str:
    return "stop" if finished else "length"
