"""Constrained decoding of JSON with declared fields.

An answer is canonical JSON (`palitune.codec.json_fields`): the declared fields in order, any of
them left out, without spaces, numbers and dates where they are declared. The grammar is a finite
automaton over bytes; the tokens that may follow a state are found by walking a trie of the
vocabulary and are kept for the next time. A token is allowed only if the answer can be completed
within the tokens left, a byte per token, so that no answer is truncated.
"""

import calendar
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from palitune.codec.json_fields import JsonField, JsonGrammar, ListField, ObjectField, ScalarField
from palitune.errors import ModelError
from palitune.models.generation.label_trie import TokenIndices, TokenMask
from palitune.models.generation.token_bytes import ByteTrie, token_bytes

_QUOTE, _BACKSLASH = ord('"'), ord("\\")
_ESCAPED = frozenset(b'"\\/bfnrt')
_DIGITS = frozenset(b"0123456789")
_BOOLEANS = (b"true", b"false")
_STRUCTURE = frozenset(b'{}[],:.-"\\0123456789truefalse')
"""Bytes outside of names and texts."""
_MAX_INTEGER_DIGITS, _MAX_FRACTION_DIGITS = 15, 6
_FIRST_DATE = b"1000-01-01"
_CONTINUATION = (0x80, 0xBF)
_CONTINUATIONS = {
    **dict.fromkeys(range(194, 224), (_CONTINUATION,)),
    **dict.fromkeys(range(225, 240), (_CONTINUATION, _CONTINUATION)),
    **dict.fromkeys(range(241, 244), (_CONTINUATION, _CONTINUATION, _CONTINUATION)),
    0xE0: ((0xA0, 0xBF), _CONTINUATION),
    0xED: ((0x80, 0x9F), _CONTINUATION),
    0xF0: ((0x90, 0xBF), _CONTINUATION, _CONTINUATION),
    0xF4: ((0x80, 0x8F), _CONTINUATION, _CONTINUATION),
}
"""Ranges of the bytes after the first byte of a character (Unicode 15, table 3-7)."""
_ESCAPE = "escape"


class _Node(NamedTuple):
    """A declared field; children are numbers of nodes."""

    kind: str
    """`object`, `list`, or a kind of value."""
    children: tuple[int, ...] = ()
    names: tuple[bytes, ...] = ()


class JsonState(NamedTuple):
    """Position in an answer."""

    open_nodes: tuple[tuple[int, int], ...]
    """(number, first child that may follow) of each open object or list, the outermost first."""
    mode: str
    """The part of the grammar that continues: `value`, `name`, `text`, ..."""
    detail: Any
    """Position within it."""


END = JsonState((), "end", None)


@dataclass(eq=False)
class JsonAutomaton:
    """The JSON of declared fields in the tokens of one tokenizer."""

    nodes: list[_Node]
    """The declaration; the answer is the object with number 0."""
    bytes_by_token: tuple[bytes | None, ...]
    trie: ByteTrie
    """Tokens that may contain anything but the inside of a text."""
    text_tokens: TokenMask
    """Tokens that stay inside a text."""
    eos_token_id: int
    _followers: dict[JsonState, dict[int, list[int]]] = field(default_factory=dict)
    """Tokens of the trie that may follow a state, by the bytes that complete the answer then."""

    initial_state = JsonState((), "value", 0)
    max_object_tokens = len("{}") + 1
    """Tokens of the shortest answer, with EOS."""

    def advance(self, state: JsonState | None, token: int) -> JsonState | None:
        """Return the state after a token; None if the answer has ended or left the grammar."""
        if token >= len(self.bytes_by_token) or self.bytes_by_token[token] is None:
            return None
        for byte in self.bytes_by_token[token] or b"":
            state = None if state is None else self.advance_byte(state, byte)
        return state

    def allowed_tokens(self, state: JsonState | None, tokens_left: int) -> list[TokenIndices]:
        """Return the tokens that may come next; none after the end of the answer.

        `tokens_left` is the number of tokens that may still be generated.
        """
        if state is None:
            return []
        if state == END:
            return [[self.eos_token_id]]
        budget = tokens_left - 2  # without this token and EOS
        allowed: list[TokenIndices] = [
            tokens
            for num_bytes, tokens in self._tokens_after(state).items()
            if num_bytes <= budget and tokens
        ]
        in_text = state.mode == "text" and not state.detail
        if in_text and len(self.completion(state)) <= budget:
            allowed.append(self.text_tokens)
        return allowed

    def _tokens_after(self, state: JsonState) -> dict[int, list[int]]:
        if state not in self._followers:
            tokens: dict[int, list[int]] = {}
            for following, found in self._walk(state, self.trie):
                tokens.setdefault(len(self.completion(following)), []).extend(found)
            self._followers[state] = tokens
        return self._followers[state]

    def _walk(self, state: JsonState, trie: ByteTrie) -> Iterator[tuple[JsonState, list[int]]]:
        """Yield the state after each token that may follow."""
        for byte, child in trie.children.items():
            following = self.advance_byte(state, byte)
            if following is not None:
                if child.tokens:
                    yield following, child.tokens
                yield from self._walk(following, child)

    def advance_byte(self, state: JsonState, byte: int) -> JsonState | None:
        """Return the state after a byte; None if it is not allowed."""
        method = getattr(self, f"_in_{state.mode}")
        following: JsonState | None = method(state, byte)
        return following

    def _in_end(self, state: JsonState, byte: int) -> None:
        return None

    def _in_value(self, state: JsonState, byte: int) -> JsonState | None:
        number, node = state.detail, self.nodes[state.detail]
        if node.kind == "object":
            frames = (*state.open_nodes, (number, 0))
            return JsonState(frames, "object", None) if byte == ord("{") else None
        if node.kind == "list":
            frames = (*state.open_nodes, (number, 0))
            return JsonState(frames, "value", node.children[0]) if byte == ord("[") else None
        if node.kind == "number":
            return self._in_number(state._replace(mode="number", detail=("start", 0)), byte)
        if node.kind == "boolean":
            return self._in_boolean(state._replace(mode="boolean", detail=b""), byte)
        if byte != _QUOTE:
            return None
        is_date = node.kind.startswith("date")
        return state._replace(mode="date" if is_date else "text", detail=b"" if is_date else ())

    def _in_object(self, state: JsonState, byte: int) -> JsonState | None:
        """After `{`."""
        return self._close(state) if byte == ord("}") else self._in_name_start(state, byte)

    def _in_name_start(self, state: JsonState, byte: int) -> JsonState | None:
        if byte == _QUOTE and self._names(state):
            return state._replace(mode="name", detail=b"")
        return None

    def _in_name(self, state: JsonState, byte: int) -> JsonState | None:
        names = self._names(state)
        if byte == _QUOTE and state.detail in names:
            return state._replace(mode="colon", detail=names[state.detail])
        begun = state.detail + bytes([byte])
        if any(name.startswith(begun) for name in names):
            return state._replace(detail=begun)
        return None

    def _in_colon(self, state: JsonState, byte: int) -> JsonState | None:
        if byte != ord(":"):
            return None
        number, _ = state.open_nodes[-1]
        frames = (*state.open_nodes[:-1], (number, state.detail + 1))
        return JsonState(frames, "value", self.nodes[number].children[state.detail])

    def _in_after_value(self, state: JsonState, byte: int) -> JsonState | None:
        if not state.open_nodes:
            return None
        node = self.nodes[state.open_nodes[-1][0]]
        if byte == ord("}" if node.kind == "object" else "]"):
            return self._close(state)
        if byte != ord(","):
            return None
        if node.kind == "list":
            return state._replace(mode="value", detail=node.children[0])
        return state._replace(mode="name_start") if self._names(state) else None

    def _in_text(self, state: JsonState, byte: int) -> JsonState | None:
        if state.detail == _ESCAPE:
            return state._replace(detail=()) if byte in _ESCAPED else None
        if state.detail:  # within a character
            (least, most), *rest = state.detail
            return state._replace(detail=tuple(rest)) if least <= byte <= most else None
        if byte == _QUOTE:
            return self._after_value(state)
        if byte == _BACKSLASH:
            return state._replace(detail=_ESCAPE)
        if byte < 0x80:
            return state if byte >= ord(" ") else None
        return state._replace(detail=_CONTINUATIONS[byte]) if byte in _CONTINUATIONS else None

    def _in_number(self, state: JsonState, byte: int) -> JsonState | None:
        part, count = state.detail
        if byte in _DIGITS:
            if part in ("start", "sign"):
                return state._replace(detail=("zero" if byte == ord("0") else "integer", 1))
            if part == "integer" and count < _MAX_INTEGER_DIGITS:
                return state._replace(detail=("integer", count + 1))
            if part in ("point", "fraction") and count < _MAX_FRACTION_DIGITS:
                return state._replace(detail=("fraction", count + 1))
            return None
        if byte == ord("-") and part == "start":
            return state._replace(detail=("sign", 0))
        if byte == ord(".") and part in ("zero", "integer"):
            return state._replace(detail=("point", 0))
        if part in ("zero", "integer", "fraction"):
            return self._in_after_value(self._after_value(state), byte)
        return None

    def _in_boolean(self, state: JsonState, byte: int) -> JsonState | None:
        begun = state.detail + bytes([byte])
        if begun in _BOOLEANS:
            return self._after_value(state)
        is_begin = any(word.startswith(begun) for word in _BOOLEANS)
        return state._replace(detail=begun) if is_begin else None

    def _in_date(self, state: JsonState, byte: int) -> JsonState | None:
        begun = state.detail
        if len(begun) == len(_FIRST_DATE):
            return self._after_value(state) if byte == _QUOTE else None
        begun += bytes([byte])
        return state._replace(detail=begun) if _begins_date(begun) else None

    def _after_value(self, state: JsonState) -> JsonState:
        return state._replace(mode="after_value", detail=None) if state.open_nodes else END

    def _close(self, state: JsonState) -> JsonState:
        return self._after_value(state._replace(open_nodes=state.open_nodes[:-1]))

    def _names(self, state: JsonState) -> dict[bytes, int]:
        """Return the fields that may follow in the innermost object, by name."""
        number, first = state.open_nodes[-1]
        names = self.nodes[number].names
        return {names[index]: index for index in range(first, len(names))}

    def completion(self, state: JsonState) -> bytes:
        """Return a short end of the answer."""
        if state.mode in ("name_start", "name"):
            names = self._names(state)
            begun = state.detail if state.mode == "name" else b""
            name = min((n for n in names if n.startswith(begun)), key=len)
            child = self.nodes[state.open_nodes[-1][0]].children[names[name]]
            quote = b'"' if state.mode == "name_start" else b""
            rest = quote + name[len(begun) :] + b'":' + self._shortest(child)
        elif state.mode == "colon":
            child = self.nodes[state.open_nodes[-1][0]].children[state.detail]
            rest = b":" + self._shortest(child)
        elif state.mode == "value":
            rest = self._shortest(state.detail)
        elif state.mode == "text":
            is_escape = state.detail == _ESCAPE
            rest = b'""' if is_escape else bytes(least for least, _ in state.detail) + b'"'
        elif state.mode == "number":
            rest = b"0" if state.detail[0] in ("start", "sign", "point") else b""
        elif state.mode == "boolean":
            rest = next(w for w in _BOOLEANS if w.startswith(state.detail))[len(state.detail) :]
        elif state.mode == "date":
            rest = _complete_date(state.detail)[len(state.detail) :] + b'"'
        else:
            rest = b""
        return rest + bytes(
            ord("}" if self.nodes[number].kind == "object" else "]")
            for number, _ in reversed(state.open_nodes)
        )

    def _shortest(self, number: int) -> bytes:
        """Return the shortest value of a field."""
        node = self.nodes[number]
        match node.kind:
            case "object":
                return b"{}"
            case "list":
                return b"[" + self._shortest(node.children[0]) + b"]"
            case "number":
                return b"0"
            case "boolean":
                return b"true"
            case "text" | "lowercase":
                return b'""'
        return b'"' + _FIRST_DATE + b'"'


def _begins_date(begun: bytes) -> bool:
    """Return whether a text can become a date from 1000-01-01 to 2999-12-31."""
    complete = _complete_date(begun)
    if not all(
        chr(byte) == "-" if index in (4, 7) else byte in _DIGITS
        for index, byte in enumerate(complete)
    ):
        return False
    year, month, day = (int(part) for part in complete.split(b"-"))
    return (
        1000 <= year < 3000 and 1 <= month <= 12 and 1 <= day <= calendar.monthrange(year, month)[1]
    )


def _complete_date(begun: bytes) -> bytes:
    """Return a date that begins with some characters, if there is one."""
    rest = _FIRST_DATE[len(begun) :]
    if len(begun) in (6, 9) and begun[-1:] != b"0":
        rest = b"0" + rest[1:]  # month 10, day 10, 20 or 30
    return begun + rest


def compile_nodes(declared: ObjectField) -> list[_Node]:
    """Return the nodes of a declaration, the outermost object first."""
    nodes: list[_Node] = []

    def add(each: JsonField) -> int:
        number = len(nodes)
        nodes.append(_Node("object"))
        match each:
            case ObjectField(fields):
                names = tuple(_json_characters(name) for name, _ in fields)
                nodes[number] = _Node("object", tuple(add(child) for _, child in fields), names)
            case ListField(item):
                nodes[number] = _Node("list", (add(item),))
            case ScalarField(kind):
                nodes[number] = _Node(kind)
        return number

    add(declared)
    return nodes


def _json_characters(name: str) -> bytes:
    """Return a name as it stands between the quotes of canonical JSON."""
    return json.dumps(name, ensure_ascii=False)[1:-1].encode()


@lru_cache(maxsize=32)
def compile_json_grammar(tokenizer: Any, grammar: JsonGrammar) -> JsonAutomaton:
    """Compile the declared fields for a tokenizer.

    Raises ModelError if the tokenizer has no token for a single byte of the grammar.
    """
    contents = token_bytes(tokenizer)
    nodes = compile_nodes(grammar.fields)
    names = [name for node in nodes for name in node.names]
    single_bytes = {content[0] for content in contents if content and len(content) == 1}
    if missing := {*_STRUCTURE, *range(0x80, 0xC0), *b"".join(names)} - single_bytes:
        raise ModelError(
            f"the tokenizer has no token for the byte {min(missing):#x}, which "
            "evaluation.constrained_decoding=true needs. Set it to false."
        )
    in_text = [bool(content) and _stays(content or b"") for content in contents]
    in_trie = (
        (token, content)
        for token, content in enumerate(contents)
        if content and (not _stays(content) or _may_be_structure(content, names))
    )
    return JsonAutomaton(
        nodes=nodes,
        bytes_by_token=contents,
        trie=ByteTrie.build(in_trie),
        text_tokens=TokenMask(torch.tensor(in_text)),
        eos_token_id=tokenizer.eos_token_id,
    )


def _stays(content: bytes) -> bool:
    """Return whether the bytes are whole characters that stay inside a text."""
    if any(byte < ord(" ") or byte in (_QUOTE, _BACKSLASH) for byte in content):
        return False
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True


def _may_be_structure(content: bytes, names: list[bytes]) -> bool:
    """Return whether bytes without quotes may be part of a name, or lie outside of texts."""
    return _STRUCTURE.issuperset(content) or any(content in name for name in names)
