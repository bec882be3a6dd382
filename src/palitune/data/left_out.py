"""What a task leaves out of its examples by its own settings: counted, and told with its places."""

from dataclasses import dataclass, field

NAMED = 10
"""Places that a sentence names."""


@dataclass
class _Reason:
    count: int = 0
    rows: int = 0
    places: list[str] = field(default_factory=list)


@dataclass
class LeftOut:
    """Counts by reason."""

    reasons: dict[str, _Reason] = field(default_factory=dict)

    def add(self, counts: dict[str, int], place: str) -> None:
        """Take in the counts of one row, which stands at `place`."""
        for name, count in counts.items():
            reason = self.reasons.setdefault(name, _Reason())
            reason.count += count
            reason.rows += 1
            if reason.rows <= NAMED:
                reason.places.append(f"{place} ({count})" if count > 1 else place)

    def sentences(self) -> list[str]:
        """Say how many were left out of how many rows, and where: a sentence per reason."""
        return [
            f"left out: {reason.count} {name}, in {reason.rows} rows: {'; '.join(reason.places)}"
            + ("; ..." if reason.rows > NAMED else "")
            for name, reason in self.reasons.items()
        ]
