"""Tolerant parser of a generated JSON object, with the place of every value in the text.

JSON (RFC 8259) is parsed as it is. Any other text is repaired as far as possible, and every repair
is reported: text around the object, single or typographic quotes, missing or additional commas,
missing brackets, unquoted names. A value that the end of the text cuts off is left out.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

_CLOSING_QUOTES = {'"': '"', "'": "'", "“": "”", "”": "”", "‘": "’", "’": "’", "`": "`"}
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "/": "/"}
_WORDS = {"true": True, "false": False, "null": None}
_PYTHON_WORDS = {"True": True, "False": False, "None": None}
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_SPACE = re.compile(r"[ \t\r\n]*")
_UNICODE_ESCAPE = re.compile(r"u([0-9a-fA-F]{4})")
_AFTER_STRING = re.compile(r"\s*(?:[,:}\]]|\Z)")
_BARE_WORD = re.compile(r"[^,:{}\[\]\n]*")
_MAX_DEPTH = 50
_MAX_DIGITS = 300
"""Longer numbers are texts; Python cannot convert them to a float."""


@dataclass(frozen=True)
class JsonNode:
    """A JSON value and its place in the text."""

    value: Any
    """A text, a number, a boolean, None, a list of nodes, or a dictionary of nodes."""
    start: int
    end: int

    def to_python(self) -> Any:
        """Return the value without places."""
        if isinstance(self.value, dict):
            return {name: node.to_python() for name, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.to_python() for node in self.value]
        return self.value


class _TooDeepError(Exception):
    pass


class _CutOffError(Exception):
    """The text ends within a name or a value."""


def parse_json_object(text: str) -> tuple[JsonNode | None, list[str]]:
    """Parse the first object of a text.

    Returns:
        The object, None if the text has none, and the repairs, a phrase each. The text is a JSON
        object if and only if there is no repair.
    """
    start = text.find("{")
    if start < 0:
        return None, ["no JSON object"]
    parser = _Parser(text, start)
    if text[:start].strip(" \t\r\n"):
        parser.report("text before the object")
    try:
        node = parser.object()
    except _TooDeepError:
        return None, ["nested too deeply"]
    if text[parser.position :].strip(" \t\r\n"):
        parser.report("text after the object")
    return node, parser.repairs


class _Parser:
    """Recursive descent; every method starts at `position` and ends after what it parsed."""

    def __init__(self, text: str, position: int) -> None:
        self.text = text
        self.position = position
        self.repairs: list[str] = []
        self.open_brackets: list[str] = []

    def report(self, repair: str) -> None:
        if repair not in self.repairs:
            self.repairs.append(repair)

    def object(self) -> JsonNode:
        start, members = self.position, dict[str, JsonNode]()
        self._open("}")
        while not self._at_end_of_container("}", bool(members)):
            try:
                name = self._name()
                node = self._value()
            except _CutOffError:
                self.report("the text is cut off")
                break
            if name in members:
                self.report(f"field {name!r} is repeated")
            members[name] = node
        self.open_brackets.pop()
        return JsonNode(members, start, self.position)

    def _array(self) -> JsonNode:
        start, items = self.position, list[JsonNode]()
        self._open("]")
        while not self._at_end_of_container("]", bool(items)):
            try:
                items.append(self._value())
            except _CutOffError:
                self.report("the text is cut off")
                break
        self.open_brackets.pop()
        return JsonNode(items, start, self.position)

    def _open(self, bracket: str) -> None:
        if len(self.open_brackets) >= _MAX_DEPTH:
            raise _TooDeepError
        self.open_brackets.append(bracket)
        self.position += 1

    def _at_end_of_container(self, bracket: str, has_entries: bool) -> bool:
        """Consume the separator or the closing bracket; return whether the container ends."""
        self._skip_space()
        num_commas = 0
        while (character := self._peek()) == ",":
            num_commas += 1
            self.position += 1
            self._skip_space()
        if character == "":
            self.report("the text is cut off")
            return True
        ends = character in "}]"
        if num_commas != int(has_entries and not ends):
            self.report("missing or additional comma")
        if not ends:
            return False
        if character == bracket:
            self.position += 1
            return True
        self.report("mismatched bracket")
        if character not in self.open_brackets:
            self.position += 1
        return True

    def _name(self) -> str:
        if self._peek() in _CLOSING_QUOTES:
            name = self._string()
        else:
            self.report("unquoted name")
            name = self._bare_word()
        self._skip_space()
        if self._peek() == ":":
            self.position += 1
        elif self._peek() == "":
            raise _CutOffError
        else:
            self.report("missing colon")
        return name

    def _value(self) -> JsonNode:
        self._skip_space()
        start, character = self.position, self._peek()
        if character == "":
            raise _CutOffError
        if character == "{":
            return self.object()
        if character == "[":
            return self._array()
        value = self._string() if character in _CLOSING_QUOTES else self._word_or_number()
        return JsonNode(value, start, self.position)

    def _word_or_number(self) -> Any:
        start = self.position
        word = self._bare_word()
        if self.position == len(self.text) and word not in (*_WORDS, *_PYTHON_WORDS):
            raise _CutOffError  # further digits or letters may be missing
        if word in _WORDS:
            return _WORDS[word]
        if _NUMBER.fullmatch(word) and len(word) <= _MAX_DIGITS:
            return json.loads(word)
        if word in _PYTHON_WORDS:
            self.report("a word of Python")
            return _PYTHON_WORDS[word]
        self.report("unquoted text" if word else "missing value")
        if self.position == start:
            self.position += self._peek() == ":"
        return word or None

    def _bare_word(self) -> str:
        match = _BARE_WORD.match(self.text, self.position)
        assert match is not None
        self.position = match.end()
        return match[0].strip()

    def _string(self) -> str:
        quote = self._peek()
        closing = _CLOSING_QUOTES[quote]
        if quote != '"':
            self.report("wrong quotes")
        self.position += 1
        characters: list[str] = []
        while True:
            character = self._peek()
            if character == "":
                raise _CutOffError
            self.position += 1
            if character == closing:
                if _AFTER_STRING.match(self.text, self.position):
                    return _join_surrogates("".join(characters))
                self.report("a quote inside a text")
            elif character == "\\":
                character = self._escape()
            elif character < " ":
                self.report("a control character inside a text")
            characters.append(character)

    def _escape(self) -> str:
        character = self._peek()
        if character == "":
            raise _CutOffError
        if match := _UNICODE_ESCAPE.match(self.text, self.position):
            self.position = match.end()
            return chr(int(match[1], 16))
        self.position += 1
        if character not in _ESCAPES:
            self.report("an unknown escape sequence")
        return _ESCAPES.get(character, character)

    def _skip_space(self) -> None:
        match = _SPACE.match(self.text, self.position)
        assert match is not None
        self.position = match.end()

    def _peek(self) -> str:
        """Return the next character; "" at the end of the text."""
        return self.text[self.position : self.position + 1]


def _join_surrogates(text: str) -> str:
    r"""Join the pairs of surrogates that `\uD83D\uDE00` stands for; a lone one becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
