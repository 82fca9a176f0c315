"""What a depth study consists of: its members, and the one file that says what was asked and what was found.

DIR/
  depth.json          what was asked for, which members diverged, what was found so far; written anew after each member
  depth.html          the page
  runs/KIND-DEPTH-seedN/   a Run: what `resight train` makes
  measured/           of each member, what a training does not keep: gradient norms by layer, responses, training error
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from resight.errors import RunError, UsageError
from resight.images import printable
from resight.runs import CARD
from resight.runs.plain_json import read_json
from resight.runs.storage import write_atomic

PLAN, PAGE, RUNS, MEASURED = "depth.json", "depth.html", "runs", "measured"
SCHEMA = 1


@dataclass(frozen=True)
class Kind:
    """A family of nets: its members' name with the depth left open, and the fields of the configuration that differ."""

    name: str
    says: str
    fields: Mapping[str, Any] = field(default_factory=dict)


PLAIN, RESIDUAL = "plain", "residual"
KINDS: dict[str, Kind] = {
    PLAIN: Kind("resnet{}_plain", "no shortcuts"),
    RESIDUAL: Kind("resnet{}", "shortcuts of option A: identities, padded with zeros where channels are added"),
    "shortcut-B": Kind("resnet{}", "1×1 convolutions where shapes change", {"model.options.shortcut": "B"}),
    "shortcut-D": Kind("resnet{}", "averaged, then 1×1 convolutions", {"model.options.shortcut": "D"}),
    "zero-gamma": Kind("resnet{}", "every block starts as its shortcut", {"model.zero_gamma": True}),
    "no-batchnorm": Kind("resnet{}", "biases instead of batch normalisation", {"model.options.norm": "none"}),
    "plain-no-batchnorm": Kind("resnet{}_plain", "neither shortcuts nor norms", {"model.options.norm": "none"}),
    "preact": Kind("preact_resnet{}", "norm and ReLU before the weights (He et al. 2016)"),
    "stochastic-depth": Kind(
        "resnet{}",
        "branches dropped while training, the last with probability 0.5 (Huang et al. 2016)",
        {"model.options.stochastic_depth": 0.5},
    ),
}
ABLATIONS: dict[str, tuple[str, ...]] = {
    **{name: (name,) for name in ("shortcut-B", "shortcut-D", "zero-gamma", "preact", "stochastic-depth")},
    "no-batchnorm": ("no-batchnorm", "plain-no-batchnorm"),
}
_ALWAYS = {"shortcut-A": RESIDUAL, "no-shortcut": PLAIN}  # the two sides that every study has


@dataclass(frozen=True)
class Member:
    """One training of the study."""

    kind: str
    depth: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.depth}-seed{self.seed}"

    @property
    def wishes(self) -> dict[str, Any]:
        """Fields of the configuration, on top of what all members share."""
        kind = KINDS[self.kind]
        equal = {"model.zero_gamma": False}  # whatever a recipe does for the deepest
        return {"model.name": kind.name.format(self.depth), "seed": self.seed, **equal, **kind.fields}


@dataclass(frozen=True)
class Asked:
    """What a study was started with. seeds: of every depth; end_seeds: of the first and the last depth. wishes: fields
    that all members share. pictures: in all parts together, 0 for all there are. fingerprint: of the data as they are
    split; empty until they were looked at."""

    data: str
    depths: tuple[int, ...]
    seeds: int
    end_seeds: int
    ablate: tuple[str, ...]
    recipe: str
    wishes: dict[str, Any]
    pictures: int
    fingerprint: str = ""

    @property
    def kinds(self) -> tuple[str, ...]:
        return (PLAIN, RESIDUAL, *(kind for name in self.ablate for kind in ABLATIONS[name]))

    def members(self) -> list[Member]:
        """In the order of training: one seed of everything first, then the repetitions."""
        ends = {self.depths[0], self.depths[-1]}
        return [
            Member(kind, depth, seed)
            for seed in range(max(self.seeds, self.end_seeds))
            for depth in self.depths
            for kind in self.kinds
            if seed < (max(self.seeds, self.end_seeds) if depth in ends else self.seeds)
        ]


@dataclass
class DepthStudy:
    """An open study. ended: members whose training diverged, and how. result: what was found so far."""

    path: Path
    asked: Asked
    ended: dict[str, str] = field(default_factory=dict)
    result: dict[str, Any] | None = None

    def run_path(self, member: Member) -> Path:
        return self.path / RUNS / member.name

    def measured_path(self, member: Member) -> Path:
        return self.path / MEASURED / f"{member.name}.json"

    def write(self) -> None:
        """depth.json, atomically. Raises StorageError."""
        plain = {"schema": SCHEMA, "asked": asdict(self.asked), "ended": self.ended, "result": self.result}
        text = json.dumps(plain, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        write_atomic(self.path / PLAN, text.encode("utf-8", "backslashreplace"))


def check_asked(depths: Sequence[int], ablate: Sequence[str], seeds: int, end_seeds: int) -> None:
    """Raises UsageError for a depth that the family has not, an ablation that does not exist or changes nothing."""
    from resight.models.variants import CIFAR  # here: whether a folder is a study is asked without PyTorch

    if len(depths) < 2 or any(a >= b for a, b in pairwise(depths)):
        raise UsageError(f"--depths is {', '.join(map(str, depths))}; expected two or more, rising")
    if strange := [depth for depth in depths if depth not in CIFAR]:
        raise UsageError(
            f"there is no ResNet of the CIFAR type with {strange[0]} layers",
            hint=f"depths: {', '.join(map(str, sorted(CIFAR)))}",
        )
    for name in ablate:
        if name in _ALWAYS:
            raise UsageError(f"--ablate {name} has no effect: every study trains it, as '{_ALWAYS[name]}'")
        if name not in ABLATIONS:
            raise UsageError(f"there is no ablation '{name}'", hint=f"ablations: {', '.join(ABLATIONS)}")
    if len(set(ablate)) != len(ablate):
        raise UsageError("--ablate names the same thing twice")
    if seeds < 1 or end_seeds < 0:
        raise UsageError(f"--seeds is {seeds} and --end-seeds {end_seeds}; expected 1 or more, and 0 or more")
    if 0 < end_seeds <= seeds:
        raise UsageError(f"--end-seeds {end_seeds} has no effect: every depth has {seeds}")


_TYPES = {
    "data": str,
    "recipe": str,
    "fingerprint": str,
    "wishes": dict,
    "seeds": int,
    "end_seeds": int,
    "pictures": int,
}


def is_depth_study(folder: str | Path) -> bool:
    """Whether ``study depth`` made this directory."""
    return (Path(folder) / PLAN).is_file()


def read_study(folder: Path) -> DepthStudy:
    """A study as it stands. Raises RunError for what is none, or is of another version."""
    file = folder / PLAN
    try:
        plain = read_json(file.read_bytes())
        if plain["schema"] != SCHEMA:
            raise RunError(f"{printable(str(file))} is not a depth study of schema {SCHEMA}")
        given = dict(plain["asked"])
        given |= {name: tuple(given[name]) for name in ("depths", "ablate")}
        asked = Asked(**given)
        for name, kind in _TYPES.items():
            if type(getattr(asked, name)) is not kind:
                raise TypeError(f"asked.{name} is {getattr(asked, name)!r}")
        check_asked(asked.depths, asked.ablate, asked.seeds, asked.end_seeds)
        _renew(asked)
        return DepthStudy(folder, asked, dict(plain["ended"]), plain["result"])
    except OSError as error:
        raise RunError(f"{printable(str(file))} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, UsageError) as error:
        raise RunError(f"{printable(str(file))} is not a depth study: {error}") from error


def _renew(asked: Asked) -> None:
    """Until ``schedule.warmup_rate`` the recipe had no warm-up, and that of a study rose linearly: so it goes on."""
    from resight.recipes import DEEP

    if asked.recipe == "he2015-cifar" and max(asked.depths) >= DEEP and "schedule.warmup_rate" not in asked.wishes:
        rate = {"schedule.warmup_rate": 0.0} if asked.wishes.setdefault("schedule.warmup", 0.0) else {}
        asked.wishes.update(rate)


def check_place(folder: Path) -> None:
    """Raises UsageError unless a study is there, or may be made there: nothing is, or what a killed start left."""
    if (folder / CARD).exists():
        raise UsageError(f"{printable(str(folder))} holds a Run", hint="choose another --out")
    if not folder.exists() or is_depth_study(folder):
        return
    own = {".lock", f"{PLAN}.tmp"}
    if not folder.is_dir() or any(entry.name not in own for entry in folder.iterdir()):
        raise UsageError(
            f"{printable(str(folder))} holds something else: a study would mix with it", hint="choose another --out"
        )
