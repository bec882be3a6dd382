"""Conversations: LLaVA's `conversations` and the `messages` of chat APIs.

Each answer is a row whose prefix is the message before it: PaliGemma reads one prompt. A system
message is put before the first prompt.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from palitune.data.sources.validation import short_repr
from palitune.errors import DataError

CONVERSATION_COLUMNS = ("conversations", "messages")
_ROLE_KEYS, _TEXT_KEYS = ("from", "role"), ("value", "content")
_USERS, _ASSISTANTS = ("human", "user"), ("gpt", "assistant", "model")
_PLACEHOLDERS = ("<image>", "<image_placeholder>", "<|image|>")
_IMAGE_KEYS = ("image", "path", "url")


@dataclass(frozen=True)
class _Message:
    role: str
    text: str
    images: list[str]


def split_conversation(record: dict[str, Any], location: str) -> list[dict[str, Any]]:
    """Return a record for each answer of a conversation; any other record as it is.

    Raises DataError for a conversation without an answer, or in another notation.
    """
    column = next((name for name in CONVERSATION_COLUMNS if name in record), None)
    if column is None:
        return [record]
    entries = record[column]
    if not isinstance(entries, list):
        raise DataError(
            f"{location}: {column} must be a list of messages, got {short_repr(entries)}. Correct "
            "it."
        )
    messages = [_message(entry, column, location) for entry in entries]
    base = {name: cell for name, cell in record.items() if name not in CONVERSATION_COLUMNS}
    if images := [image for message in messages for image in message.images]:
        base = {"images": images, **base}
    turns = list(_turns(messages))
    if not turns:
        raise DataError(
            f"{location}: {column} must have a message of the user and its answer, got roles "
            f"{', '.join(message.role for message in messages) or 'none'}. Add the answer."
        )
    records = [{**base, "prefix": prompt, "suffix": answer} for prompt, answer in turns]
    if len(records) > 1 and "id" in base:
        return [{**r, "id": f"{base['id']}-{n}"} for n, r in enumerate(records, 1)]
    return records


def _turns(messages: list[_Message]) -> Iterator[tuple[str, str]]:
    """Yield each message of the user with the answer that follows it."""
    system = ""
    for message, following in zip(messages, [*messages[1:], None], strict=True):
        if message.role == "system":
            system = message.text
        elif following is not None and (message.role, following.role) == ("user", "assistant"):
            yield f"{system} {message.text}".strip(), following.text
            system = ""


def _message(entry: Any, column: str, location: str) -> _Message:
    fields = entry if isinstance(entry, dict) else {}
    role = next((fields[key] for key in _ROLE_KEYS if key in fields), None)
    content = next((fields[key] for key in _TEXT_KEYS if key in fields), None)
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        parts = None
    if not isinstance(role, str) or parts is None:
        raise DataError(
            f"{location}: entries of {column} must have a role and a text, got "
            f'{short_repr(entry)}. Write {{"role": "user", "content": "..."}}.'
        )
    text = " ".join(str(part["text"]) for part in parts if part.get("text") is not None)
    for placeholder in _PLACEHOLDERS:
        text = text.replace(placeholder, "")
    images = [image for part in parts if (image := _image(part))]
    names = {**dict.fromkeys(_USERS, "user"), **dict.fromkeys(_ASSISTANTS, "assistant")}
    return _Message(names.get(role.lower(), role.lower()), text.strip(), images)


def _image(part: dict[str, Any]) -> str | None:
    """Return the path in a part of a message, e.g. {"type": "image", "image": "a.png"}."""
    link = part.get("image_url")
    values = [link.get("url") if isinstance(link, dict) else link]
    values += [part.get(key) for key in _IMAGE_KEYS]
    found = next((value for value in values if isinstance(value, str)), None)
    return found.removeprefix("file://") if found else None
