"""What a check found: ``Finding``, and the pictures it names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from resight.samples import SampleSet

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that was found: positions of pictures in the set (several for duplicates), and what is to be said."""

    pictures: tuple[int, ...]
    note: str = ""


@dataclass(frozen=True)
class Finding:
    """``kind`` names the check; ``effect``: what it does to a result; ``remedy`` and ``command``: what to do.
    ``cleaned``: how the remedy goes on where a manifest can be written: what that does.

    ``severity``: an error makes results wrong or stops a training, a warning makes them worse or less sure, a note is
    good to know. ``items`` may be empty where no single picture is meant. ``texts`` are sentences of their own.
    """

    kind: str
    severity: Severity
    title: str
    effect: str
    remedy: str
    command: str = ""
    items: tuple[Item, ...] = ()
    texts: tuple[str, ...] = ()
    cleaned: str = ""

    @property
    def count(self) -> int:
        return len(self.items) or len(self.texts)

    @property
    def pictures(self) -> tuple[int, ...]:
        """All that are named, each once, in the order of the set."""
        return tuple(sorted({picture for item in self.items for picture in item.pictures}))

    def to_dict(self, samples: SampleSet) -> dict[str, Any]:
        """Plain values for JSON, with every picture."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "title": self.title,
            "count": self.count,
            "effect": self.effect,
            "remedy": self.remedy,
            "command": self.command,
            "texts": list(self.texts),
            "items": [
                {"pictures": [picture(samples, k) for k in item.pictures], "note": item.note} for item in self.items
            ],
        }


def picture(samples: SampleSet, position: int) -> dict[str, str]:
    """Name, class and part of one picture, exact."""
    sample = samples.samples[position]
    return {"source": sample.name, "label": samples.label_text(sample), "split": sample.split}


def counted(number: int, noun: str) -> str:
    """``1 group``, ``2,000 groups``."""
    return f"{number:,} {plural(noun, number)}"


def plural(noun: str, number: int) -> str:
    return noun if number == 1 else f"{noun}s"
