"""``resight export``: the Run in another form, kept only if it answers the same. PyTorch only for ``program``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from resight.commands.eval_multilabel import check_task
from resight.commands.extras import need
from resight.commands.own_data import load_own, match_classes
from resight.commands.predict import find_sources, resolve_run
from resight.errors import DataError, ImageError, RunError, UsageError
from resight.images import printable
from resight.inference.backend import Pixels, thread_count
from resight.inference.sources import Source, square_of
from resight.inference.tiled import only_whole
from resight.runs import Artifact, ArtifactCard, Run, artifact_names, drafted, finished, open_artifact, publish
from resight.samples import SampleSet, load

if TYPE_CHECKING:
    from resight.exporting.gate import Checked, Gate

PICTURES = 1000
NEEDS = {  # target: what it is called, the extra, the packages
    "onnx": ("export to ONNX", "int8", "onnx"),
    "openvino": ("export to OpenVINO", "openvino", "openvino"),
    "program": ("export of a program", "train", "torch"),
    "triton": ("export for Triton", "int8", "onnx"),
    "docker": ("export for Docker", "serve", "starlette", "uvicorn", "python_multipart", "prometheus_client"),
}
Say = Callable[[str], None]


@dataclass(frozen=True)
class Exported:
    """An artefact, and what its gate found."""

    artifact: Artifact
    gate: Gate
    what: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values: its card, and where it lies."""
        return {"path": str(self.artifact.path)} | asdict(self.artifact.card)

    def to_text(self) -> str:
        card = self.artifact.card
        lines = [
            f"{printable(str(self.artifact.path))}: {self.what}",
            f"files           {len(card.files):,}, {self.artifact.bytes / 1e6:,.1f} MB",
            self.gate.to_text(),
            *(f"note: {note}" for note in card.notes),
        ]
        if card.backend is not None:
            lines.append(f"answer with it: resight predict RUN PICTURES --artifact {card.name}")
        return "\n".join(lines)


def export(
    run: Run | str | Path,
    to: str,
    *,
    name: str | None = None,
    data: str | Path | None = None,
    images: str | Path | Sequence[str | Path] | None = None,
    pictures: int | None = None,
    threads: int | None = None,
    say: Say = lambda _: None,
) -> Exported:
    """Write ``artifacts/NAME`` of a Run, compare it with the Run on real pictures, and keep it only if it agrees.

    to: ``onnx``, ``openvino``, ``program``, ``triton`` or ``docker``. name: by default the target's. data: labelled
    pictures to compare with; default: the validation part of the Run's own data. images: any pictures instead, for a
    Run whose data is not known. pictures: how many at most, evenly spaced; default: 1,000.

    Raises ParityError for an artefact that answers otherwise: an earlier one of the name stays. MissingExtra for what
    a target needs; UsageError, DataError and RunError for arguments, pictures and Runs that cannot be used;
    RunLocked while another process exports under this name; StorageError.
    """
    if to not in NEEDS:
        raise UsageError(f"there is no target {printable(to)!r}; expected one of {', '.join(NEEDS)}")
    pictures = PICTURES if pictures is None else pictures
    if type(pictures) is not int or pictures < 1:
        raise UsageError(f"pictures is {pictures!r}; expected a whole number, 1 or more")
    what, extra, *packages = NEEDS[to]
    need(what, extra, *packages)
    from resight.exporting.about import check_said
    from resight.exporting.gate import check, examine
    from resight.exporting.targets import TARGETS
    from resight.exporting.targets.written import versions

    opened = resolve_run(run)
    only_whole(opened, "resight export")
    opened.verify()
    target, called = TARGETS[to], name or to
    count = thread_count(threads)
    checked = pictures_of(opened, data, images, pictures, count)
    with drafted(opened, called) as folder:
        say(f"writing {target.what} …")
        written = target.write(opened, folder)
        card = ArtifactCard.of(opened, called, target=to, precision="fp32", backend=target.backend, graph=written.graph)
        card = replace(
            card,
            notes=tuple(written.notes),
            environment=versions(written.packages),
            metrics=opened.card.metrics,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        say("comparing its answers with those of model.onnx …")
        artifact = finished(opened, folder, card)
        check_said(opened.card, target.said(artifact), called)
        gate = examine(opened, target.answer(opened, artifact, count), checked, count)
        check(gate, called)
        return Exported(publish(opened, folder, replace(card, parity=gate.to_dict())), gate, target.what)


def pictures_of(
    run: Run,
    data: str | Path | None,
    images: str | Path | Sequence[str | Path] | None,
    most: int,
    threads: int,
) -> Checked:
    """The pictures of a gate. Raises UsageError where both or neither can be used, DataError for none."""
    from resight.exporting.gate import Checked

    if data is not None and images is not None:
        raise UsageError("--data and --images contradict each other: one of them says which pictures to compare with")
    if images is not None:
        sources = find_sources(images, arrays=run.card.channels not in (1, 3))
        chosen = [sources[i] for i in _evenly(len(sources), most)]
        return Checked(_squares(run, chosen), None, "any pictures")
    samples, part = _labelled(run, data)
    positions = [i for i, sample in enumerate(samples.samples) if part in (sample.split, None)]
    if not positions:
        raise DataError("the Run's data has no validation part", hint="give other pictures: --data or --images")
    indices = [positions[i] for i in _evenly(len(positions), most)]
    check_task(run, samples)
    numbers, _ = match_classes(samples.classes, run.classes)
    labels = None
    if run.card.task == "single":
        labels = np.array([numbers[samples.samples[i].label] for i in indices], np.int64)
    return Checked(
        _named(run, samples, indices, threads), labels, "of its validation part" if data is None else "labelled ones"
    )


def _labelled(run: Run, data: str | Path | None) -> tuple[SampleSet, str | None]:
    if data is not None:
        return load(data, val_fraction=0, test_fraction=0, training=False), None
    try:
        return load_own(run), "val"
    except (UsageError, DataError) as error:
        raise type(error)(
            error.message, hint="give pictures to compare with: --data DATA or --images FOLDER"
        ) from error


def _squares(run: Run, sources: Sequence[Source]) -> Iterator[tuple[str, Pixels]]:
    for source in sources:
        try:
            yield str(source), square_of(run.card, source)
        except ImageError as error:
            raise DataError(f"{printable(str(source))} cannot be compared with: {error.reason}") from error


def _named(run: Run, samples: SampleSet, indices: Sequence[int], threads: int) -> Iterator[tuple[str, Pixels]]:
    from resight.exporting.squares import squares

    return zip((samples.samples[i].name for i in indices), squares(run, samples, indices, threads), strict=True)


def _evenly(number: int, most: int) -> list[int]:
    """At most ``most`` of so many positions, evenly spaced: of every class, where they lie together."""
    return np.unique(np.linspace(0, number - 1, min(number, most)).round().astype(int)).tolist() if number else []


@dataclass(frozen=True)
class Listed:
    """What a Run has. problem: why one cannot be used, in words; None for a sound one."""

    name: str
    artifact: Artifact | None
    problem: str | None

    def to_dict(self) -> dict[str, Any]:
        card = None if self.artifact is None else asdict(self.artifact.card)
        return {"name": self.name, "problem": self.problem, "card": card}


def exported(run: Run | str | Path) -> list[Listed]:
    """All artefacts of a Run, each compared with its hashes."""
    opened, found = resolve_run(run), []
    for name in artifact_names(opened):
        artifact = None
        try:
            artifact = open_artifact(opened, name)
            artifact.verify()
        except RunError as error:
            found.append(Listed(name, artifact, error.message))
        else:
            found.append(Listed(name, artifact, None))
    return found


def table(found: Sequence[Listed]) -> str:
    """For a terminal."""
    if not found:
        return "no artefacts: make one with resight export RUN --to onnx"
    rows = [("name", "target", "precision", "backend", "MB", "|Δp| at most", "state")]
    for one in found:
        if one.artifact is None:
            rows.append((one.name, "", "", "", "", "", one.problem or ""))
            continue
        card, size = one.artifact.card, one.artifact.bytes / 1e6 if one.problem is None else float("nan")
        apart = card.parity.get("max_abs")
        rows.append(
            (
                one.name,
                card.target,
                card.precision,
                card.backend or "–",
                f"{size:,.1f}",
                "–" if apart is None else f"{apart:.2g}",
                printable(one.problem) if one.problem else "sound",
            )
        )
    shown = [[printable(cell) for cell in row] for row in rows]  # a card may be a stranger's
    widths = [max(len(row[k]) for row in shown) for k in range(len(shown[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in shown)
