"""Counters of one server. Each is raised by one thread at a time, or may be off by
one where two raise it in the same moment: they are for people, not for decisions."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Stats:
    """What a server has done since it started."""

    accepted: int = 0  # connections
    requests: int = 0  # that the application was called for, or may not have been
    turned_away: int = 0  # connections from peers that are not allowed
    refused: int = 0  # requests answered without the application
    broken: int = 0  # connections closed because their bytes made no sense
    timed_out: int = 0  # requests that waited too long for a thread

    def as_dict(self) -> dict[str, int]:
        """The counters by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}
