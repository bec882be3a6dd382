"""Counts of what a task drops from the examples, with the first locations."""

from dataclasses import dataclass, field

from palitune.data.images.tiles import TileCounts

MAX_LISTED = 10
"""Locations per message."""


@dataclass
class _Reason:
    count: int = 0
    rows: int = 0
    locations: list[str] = field(default_factory=list)


@dataclass
class SkipCounter:
    """Counts by reason."""

    reasons: dict[str, _Reason] = field(default_factory=dict)
    tile_counts: TileCounts | None = None
    """Counts of `data.tiles`; None if the images are not cut."""

    def add(self, counts: dict[str, int], location: str) -> None:
        """Add the counts of one row by reason."""
        for name, count in counts.items():
            reason = self.reasons.setdefault(name, _Reason())
            reason.count += count
            reason.rows += 1
            if reason.rows <= MAX_LISTED:
                reason.locations.append(f"{location} ({count})" if count > 1 else location)

    def messages(self) -> list[str]:
        """Return a sentence per reason."""
        tiles = self.tile_counts.messages() if self.tile_counts else []
        return tiles + [
            f"left out: {reason.count} {name}, in {reason.rows} rows: {'; '.join(reason.locations)}"
            + ("; ..." if reason.rows > MAX_LISTED else "")
            for name, reason in self.reasons.items()
        ]
