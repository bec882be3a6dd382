"""Bad rows grouped by cause: messages that differ only in their place and values."""

import re
from dataclasses import dataclass, field

_MAX_CAUSES = 1000
"""Causes that are told apart; each has a table row."""
_MAX_EXAMPLES = 3
_VALUES = re.compile(r"'[^']*'|\"[^\"]*\"|\[[^\]]*\]|\{[^}]*\}|-?\d+(\.\d+)?([eE][-+]?\d+)?")
_PLACE = re.compile(r"^(?:[^:]|:(?! ))*: ")
_OTHER = "other causes"


@dataclass
class BadRowGroup:
    """Bad rows of one cause."""

    cause: str
    """Message without place and values, which are written as `…`."""
    count: int = 0
    messages: list[str] = field(default_factory=list)
    """The first messages."""


@dataclass
class BadRowGroups:
    """Bad rows of a split by cause."""

    groups: dict[str, BadRowGroup] = field(default_factory=dict)

    def add(self, message: str) -> None:
        """Count a message."""
        cause = cause_of(message)
        if cause not in self.groups and len(self.groups) >= _MAX_CAUSES:
            cause = _OTHER
        group = self.groups.setdefault(cause, BadRowGroup(cause))
        group.count += 1
        if len(group.messages) < _MAX_EXAMPLES:
            group.messages.append(message)

    def most_frequent(self) -> list[BadRowGroup]:
        """Return the groups, the largest first."""
        return sorted(self.groups.values(), key=lambda group: -group.count)


def cause_of(message: str) -> str:
    """Return a message without its place, and with `…` for names and numbers."""
    first = message.split(" Also ")[0]
    return re.sub(r"…(?:, …)+", "…", _VALUES.sub("…", _PLACE.sub("", first, count=1)))
