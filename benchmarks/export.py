"""What `resight export` makes of a Run: parity, size, latency, throughput of each target; and P4, int8 beside fp32.

    python benchmarks/export.py RUN=DATA… --scratch FOLDER [--rounds 9] [--no-timing]

RUN is a trained Run, and DATA labelled pictures to compare with: at least 1,000. Everything is made by the product:
`resight export` with DATA, and `resight export --int8 --max-drop 0.5` with the Run's own data, which may refuse. What
lies in FOLDER is not made again, so that it can be made in pieces. Speed: sessions in one process that take turns, by
the code that int8's own table is measured with (`resight.exporting.int8.speed`), one thread, noise as pictures, nothing
decoded.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from common import lost_row, save
from export_rows import BACKENDS, LOST, MODEL, Rates, accuracy_row, fact, speed_rows

FP32, INT8 = ("onnx", "openvino", "program"), ("openvino", "onnx")
MAX_DROP = 0.5
HEAVY = ("resnet18", "resnet50")
"""The networks that P4 is asked of; others are reported."""
say = partial(print, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class Subject:
    """A copy of a Run with its artefacts, the pictures that all are compared on and how many of them at most, and where
    what was found is kept.
    """

    path: Path
    data: Path
    pictures: int
    found: Path

    @property
    def name(self) -> str:
        card = _opened(self.path).card
        return f"{card.architecture.name}, {card.geometry.size} px"

    @property
    def about(self) -> str:
        """What the Run is, for the notes."""
        card = _opened(self.path).card
        data = "/".join(self.data.parts[-2:]) if self.data.name in ("train", "val", "test") else self.data.name
        return f"{self.name}: {len(card.classes)} classes, compared on {data}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN=DATA")
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=10_000, help="to compare with, evenly spaced")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.5, help="for each rate")
    parser.add_argument("--note", action="append", default=[], help="what a reader must know of these Runs")
    parser.add_argument("--no-timing", action="store_true", help="only make and compare")
    args = parser.parse_args()
    subjects = [subject(*pair.split("=", 1), args.pictures, args.scratch) for pair in args.runs]
    for one in subjects:
        make(one)
    if args.no_timing:
        return
    facts: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    for one in subjects:
        place = args.scratch / f"{one.path.name}-rates.json"
        if not place.is_file():
            place.write_text(json.dumps(timed(one, args.rounds, args.seconds)))
        rates = json.loads(place.read_text())
        facts += facts_of(one, rates)
        rows += rows_of(one, rates)
    _save(facts, rows, [*(one.about for one in subjects), *args.note])


def subject(run: str, data: str, pictures: int, scratch: Path) -> Subject:
    """The copy is made once; without artefacts and checkpoints."""
    copy = scratch / Path(run).name
    if not copy.is_dir():
        _opened(Path(run))  # sealed, and sound
        shutil.copytree(run, copy, ignore=shutil.ignore_patterns("checkpoints", "artifacts", ".lock"))
    return Subject(copy, Path(data), pictures, scratch / f"{copy.name}.json")


def _opened(path: Path) -> Any:
    from resight.runs import Run

    return Run.open(path)


# ── making and comparing ───────────────────────────────────────────────────────────────────────────────────────


def make(one: Subject) -> None:
    """Every artefact by the commands' own functions; what each gate finds on the same pictures into ``one.found``."""
    from resight.commands.export import export
    from resight.commands.quantize import quantize_run
    from resight.errors import QuantizationError
    from resight.runs import artifact_names

    run = _opened(one.path)
    found = json.loads(one.found.read_text()) if one.found.is_file() else {}
    for to in FP32:
        if to not in artifact_names(run):
            say(export(run, to, data=one.data, pictures=one.pictures, threads=1, say=say).to_text())
    for to in INT8:
        name = f"{to}-int8"
        if name in found:
            continue
        try:
            if name not in artifact_names(run):
                say(quantize_run(run, to=to, max_drop=MAX_DROP, threads=1, say=say).told())
            found[name] = {"all": _compared(run, name, one), "held_out": _held_out(run, name, one)}
        except QuantizationError as error:
            say(error.message)
            found[name] = {"refused": True}
        one.found.write_text(json.dumps(found, indent=2))


def _compared(run: Any, name: str, one: Subject) -> dict[str, Any]:
    """The gate's own numbers for an int8 artefact, which the gate itself does not judge."""
    from resight.commands.export import pictures_of

    return _examined(run, name, pictures_of(run, one.data, None, one.pictures, 1))


def _held_out(run: Any, name: str, one: Subject) -> dict[str, Any]:
    """On pictures that no training and no calibration saw: those of ``_compared`` where these are of one part, else the
    Run's own validation and test parts together.
    """
    import numpy as np

    from resight.commands.own_data import load_own
    from resight.exporting.gate import Checked
    from resight.exporting.squares import squares

    if not (one.data / "train").is_dir():
        return _compared(run, name, one)
    samples = load_own(run)
    indices = [i for i, sample in enumerate(samples.samples) if sample.split != "train"]
    names = [samples.samples[i].name for i in indices]
    pictures = zip(names, squares(run, samples, indices, 1), strict=True)
    labels = np.array([samples.samples[i].label for i in indices], np.int64)
    return _examined(run, name, Checked(pictures, labels, "of its validation and test parts"))


def _examined(run: Any, name: str, checked: Any) -> dict[str, Any]:
    from resight.exporting.gate import examine
    from resight.exporting.targets.written import as_predicted
    from resight.runs import open_artifact

    found: dict[str, Any] = examine(run, as_predicted(run, open_artifact(run, name), 1), checked, 1).to_dict()
    return found


# ── time ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class Asked:
    """A target's way to an answer as a backend, to be timed with the others."""

    ask: Any

    def answer(self, pixels: Any, outputs: Sequence[str]) -> list[Any]:
        return [self.ask(pixels)]


def timed(one: Subject, rounds: int, seconds: float) -> dict[str, Rates]:
    """Of model.onnx with each backend and of each artefact: pictures a second by round, one by one and 16 at a time."""
    from resight.exporting.int8.speed import measure_rates
    from resight.exporting.targets import program
    from resight.inference import open_backend
    from resight.runs import ONNX, artifact_names, open_artifact

    run = _opened(one.path)
    sides: dict[str, Any] = {
        f"{MODEL}, {name}": open_backend(name, run.file(ONNX), 1, sha256=run.card.files[ONNX]) for name in BACKENDS
    }
    for name in artifact_names(run):
        artifact = open_artifact(run, name)
        if artifact.card.backend is None:
            sides[name] = Asked(program.answer(run, artifact, 1))
        else:
            how = {"sha256": artifact.sha256, "weights": artifact.weights}
            sides[name] = open_backend(artifact.card.backend, artifact.graph, 1, **how)
    size = run.card.geometry.size
    found: dict[str, Rates] = {name: ([], []) for name in sides}
    for number in range(rounds):
        rates = measure_rates(sides, (size, size, run.card.channels), rounds=1, seconds=seconds)
        for name, rate in rates.items():
            found[name][0].append(rate.one)
            found[name][1].append(rate.sixteen)
        say(f"{one.path.name}, round {number + 1} of {rounds}")
    return found


# ── what is shown ──────────────────────────────────────────────────────────────────────────────────────────────


def facts_of(one: Subject, rates: Mapping[str, Rates]) -> list[dict[str, Any]]:
    """One line for model.onnx, and one for each artefact."""
    from resight.runs import ONNX, open_artifact

    run = _opened(one.path)
    kept = json.loads(one.found.read_text())
    own = rates[f"{MODEL}, onnxruntime"]
    first = fact(one.name, f"{MODEL}, onnxruntime", None, run.file(ONNX).stat().st_size, own, own)
    lines = [first]
    for name in (*FP32, *(name for name in kept if "refused" not in kept[name])):
        artifact = open_artifact(run, name)
        parity = artifact.card.parity if artifact.card.precision == "fp32" else kept[name]["all"]
        lines.append(fact(one.name, name, parity, artifact.bytes, rates[name], own))
    return lines


def rows_of(one: Subject, rates: Mapping[str, Rates]) -> list[dict[str, Any]]:
    """P4: int8 against the best fp32 backend, and what accuracy lost."""
    from resight.runs import open_artifact

    run = _opened(one.path)
    rows = []
    kept = json.loads(one.found.read_text())
    first = next((name for name in kept if "refused" not in kept[name]), None)  # OpenVINO's, where it was exported
    for name, of in kept.items():
        if "refused" in of:
            about = f"refused: no form of it is both faster than fp32 and within {MAX_DROP} points"
            rows.append(lost_row(f"{one.name}, {name}", unit="%", target=None if first else LOST, equal=about))
        else:
            rows += speed_rows(one.name, name, rates, run.card.architecture.name in HEAVY and name == first)
            rows.append(accuracy_row(one.name, name, of["held_out"], open_artifact(run, name).card.fp32_layers))
    return rows


def _save(facts: list[dict[str, Any]], rows: list[dict[str, Any]], about: Sequence[str]) -> None:
    command = "python benchmarks/export.py RUN=DATA … --scratch FOLDER"
    turns = "Sessions in one process that take turns, one thread, questions one after another; medians of the rounds."
    save(
        "export",
        title="What is exported: parity, size, speed",
        target="",
        command=command,
        rows=[],
        facts=facts,
        notes=[
            turns,
            f"Beside {MODEL} as ONNX Runtime answers with it. Same best class: of the pictures whose two best are more "
            "than 1e-4 apart. Accuracy: the artefact's minus the other's, paired.",
            "fp32 must stay within 1e-4; int8 is held to its budget instead, on validation. Triton's repository and "
            f"Docker's context hold {MODEL} itself.",
            *about,
        ],
        threads=1,
    )
    save(
        "P4-int8",
        title="int8 against fp32",
        target="P4",
        command=command,
        rows=rows,
        notes=[
            f"Made by `resight export --int8 --max-drop {MAX_DROP}`, 300 pictures of calibration. {turns}",
            "Speed is asked of one form of each ResNet-18 and -50, OpenVINO's where it was exported; the rest is "
            "reported.",
            "Accuracy is of pictures that neither trained nor calibrated; where validation is among them, it held the "
            "budget.",
            *about,
        ],
        threads=1,
    )


if __name__ == "__main__":
    main()
