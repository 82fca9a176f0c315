"""What ``resight explain`` opens once for all pictures, and the explanation of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from resight.commands.own_data import load_own
from resight.errors import DataError, ImageError, UsageError
from resight.evaluation import softmax
from resight.explaining import (
    Bank,
    ClassMap,
    Explanation,
    Neighbour,
    beside,
    check_head,
    class_activation,
    enlarge,
    explain_tiles,
    faithfulness,
    head_of,
    make_bank,
    nearest,
    overlay,
    png,
    reference_bank,
    shrunk,
)
from resight.images import decode, printable, shown_as, visible
from resight.inference import AUTO, UNLIKE, Predictor, Source
from resight.inference.backend import ROUTE
from resight.inference.sources import whole_of
from resight.inference.tasks import labels_of
from resight.runs import REFERENCE, Run
from resight.runs.storage import write_atomic
from resight.samples import SampleSet

if TYPE_CHECKING:
    from resight.attribution import Explained

CAM = "cam"
NEAREST = 6
COMPARED = 300  # embedded for a Run that carries none
SHOWN = 1024  # pixels a side of a picture that is cut into tiles, where it is shown beside its map
NOT_CHECKED = (
    "maps of tiles are not compared with random ones: each is what the answer is the sum of, and the comparison would "
    "answer the whole picture 363 times"
)
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass
class Explainer:
    """What is opened once for all pictures."""

    run: Run
    method: str
    targets: list[int]
    top: int
    faithful: bool
    sanity: bool
    inside: bool
    artifact: str | None
    backend: str
    threads: int | None
    compare: int | None
    say: Callable[[str], None]

    def __post_init__(self) -> None:
        shown = shown_as(self.run.card.channels)
        self.notes: list[str] = [f"pictures are shown by {shown}; the network sees all of them"] if shown else []
        self.predictor = Predictor(self.run, artifact=self.artifact, backend=self.backend, threads=self.threads)
        if self.predictor.choice.note:
            self.say(f"note: {printable(self.predictor.choice.note, 2000)}")
        if self.backend == AUTO:
            self.say(f"backend: {self.predictor.choice.name}, {self.predictor.choice.reason}")
        if self.predictor.tiled and self.faithful:
            self.notes.append(NOT_CHECKED)
        self.head = head_of(self.predictor) if self.method == CAM else None
        self.network: Explained | None = None
        if self.method != CAM or self.sanity or self.inside:
            self.network = self._network()
        self.samples, self.bank = self._bank()

    def _network(self) -> Explained | None:
        from importlib.util import find_spec

        if find_spec("torch") is None:
            return None  # only the filters were asked for: the others have said what they need
        from resight.attribution import load_network

        return load_network(self.run)

    def _bank(self) -> tuple[SampleSet | None, Bank | None]:
        """Training pictures to compare with, where the Run knows its data; else a note."""
        if self.compare == 0:
            return None, None
        try:
            samples = load_own(self.run)
            if self.run.records(REFERENCE):
                return samples, reference_bank(self.predictor.reference, samples, limit=self.compare)
            limit = COMPARED if self.compare is None else self.compare
            self.say(f"this Run carries no embeddings: embedding up to {limit:,} training pictures")
            return samples, make_bank(self.predictor, samples, limit=limit)
        except (DataError, UsageError) as error:
            self.notes.append(f"no training pictures are shown: {error.message}")
            return None, None

    def explain(self, source: Source, name: str, path: Path) -> tuple[Explanation, dict[str, Any], Floats]:
        """One picture: writes its PNG; returns what is said, what the page shows, and its embedding (D,)."""
        from resight.reporting.explanations import section

        if self.predictor.tiled:
            return self._tiled(source, name, path)
        square = self.predictor.square(source)
        routes = self.predictor.routes
        more = (*((ROUTE,) if routes else ()), *((UNLIKE,) if self.predictor.unknowns else ()))
        features, rows, logits, embedding, *said = self.predictor.ask(
            square[None], ("features", "probabilities", "logits", "embedding", *more)
        )
        told = dict(zip(more, said, strict=True))
        probabilities = rows[0]
        best = np.argsort(-probabilities, kind="stable")
        shown = self.targets or [int(k) for k in best[: self.top]]
        heats = self._heats(square, features, logits, shown)
        names = self.run.classes
        maps = tuple(ClassMap(names[k], float(probabilities[k]), h) for k, h in zip(shown, heats, strict=True))
        picture, geometry = enlarge(_colour(source, self.run.card.channels)), self.run.card.geometry
        write_atomic(path, png(beside(picture, overlay(picture, heats[0], geometry))))
        answer = names[best[0]], float(probabilities[best[0]])
        item = Explanation(name, *answer, labels=labels_of(self.predictor.card, probabilities), maps=maps, picture=path)
        item = replace(item, route=routes[int(told[ROUTE][0])] if routes else None)
        item = self._checked(self._known(item, told.get(UNLIKE)), square, shown[0])
        found = self._nearest(embedding)
        item = replace(item, nearest=tuple(neighbour for neighbour, _ in found))
        entry = section(item, picture, geometry, [pixels for _, pixels in found], self._stages(square))
        return item, entry, embedding[0]

    def _tiled(self, source: Source, name: str, path: Path) -> tuple[Explanation, dict[str, Any], Floats]:
        """The same where the picture is cut into tiles: the map is of the whole picture; a second PNG holds it at full
        resolution.
        """
        from resight.reporting.explanations import section

        assert self.head is not None
        whole = whole_of(self.run.card, source)
        found = explain_tiles(self.predictor, whole, self.head, self.targets, self.top)
        probabilities = softmax(found.logits[None] / self.predictor.card.temperature)[0]
        best, names = int(probabilities.argmax()), self.run.classes
        maps = tuple(
            ClassMap(names[k], float(probabilities[k]), one.reduced(SHOWN))
            for k, one in zip(found.classes, found.maps, strict=True)
        )
        picture = enlarge(shrunk(visible(whole), SHOWN))
        write_atomic(path, png(beside(picture, overlay(picture, maps[0].heat, fine=True))))
        write_atomic(path.with_name(f"{path.stem}-map.png"), png(found.maps[0].grey()))
        item = Explanation(
            *(name, names[best], float(probabilities[best])), maps=maps, picture=path, peak=found.maps[0].peak()
        )
        unknowns = self.predictor.unknowns
        item = self._known(item, unknowns.scorer(found.embedding[None]) if unknowns and unknowns.scorer else None)
        near = self._nearest(found.embedding[None])
        item = replace(item, nearest=tuple(neighbour for neighbour, _ in near))
        return item, section(item, _three(picture), None, [pixels for _, pixels in near], {}), found.embedding

    def _heats(self, square: Pixels, features: Floats, logits: Floats, shown: list[int]) -> list[Floats]:
        if self.head is not None:
            check_head(features, logits, self.head)
            maps = class_activation(np.repeat(features, len(shown), axis=0), self.head.weights[shown])
            return list(maps)
        from resight.attribution import METHODS as WITH_TORCH

        assert self.network is not None
        return [WITH_TORCH[self.method](self.network, square, k) for k in shown]

    def _known(self, item: Explanation, unlike: Floats | None) -> Explanation:
        """With what ``predict`` says of it: whether it is unlike the training data, by its score (1,)."""
        unknowns = self.predictor.unknowns
        if unknowns is None or unlike is None:
            return item
        score = float(unlike[0])
        return replace(item, unknown=score > unknowns.threshold, score=score)

    def _checked(self, item: Explanation, square: Pixels, target: int) -> Explanation:
        """With the verdicts on the first map that were asked for."""
        heat = item.maps[0].heat
        if self.faithful:

            def ask(squares: Pixels) -> Floats:
                return self.predictor.ask(squares, ("probabilities",))[0][:, target]

            found = faithfulness(square, heat, ask, self.run.card.mean)
            item = replace(item, faithfulness=found, verdicts=((found.faithful, found.verdict),))
        if self.sanity:
            from resight.attribution import METHODS as WITH_TORCH
            from resight.attribution import sanity
            from resight.attribution.randomisation import passed, verdict

            assert self.network is not None
            method = WITH_TORCH["gradcam" if self.method == CAM else self.method]
            value = sanity(method, self.network, square, target, heat=heat)
            item = replace(item, randomised=value, verdicts=(*item.verdicts, (passed(value), verdict(value))))
        return item

    def _nearest(self, embedding: Floats) -> list[tuple[Neighbour, Pixels]]:
        """The nearest training pictures."""
        if self.bank is None or self.samples is None:
            return []
        places, cosines = nearest(self.bank.embeddings, embedding, NEAREST)
        found = []
        for place, cosine in zip(places[0], cosines[0], strict=True):
            sample = self.bank.samples[place]
            neighbour = Neighbour(sample.name, self.samples.label_text(sample) or "no label", float(cosine))
            try:
                pixels = self.samples.read(sample, _shown_channels(self.run.card.channels))
                found.append((neighbour, visible(pixels)))
            except ImageError as error:  # of the training data, not of the picture that is explained
                note = f"a training picture cannot be shown: {printable(sample.name)}: {error.reason}"
                self.notes += [] if note in self.notes else [note]
        return found

    def _stages(self, square: Pixels) -> dict[str, Floats]:
        """Activations by name, (D, h, w), where they were asked for."""
        if not self.inside or self.network is None:
            return {}
        from resight.attribution import activations

        return activations(self.network, square)


def _three(pixels: Pixels) -> Pixels:
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else pixels


def _shown_channels(channels: int) -> int:
    """How many are decoded to show a picture to people: a grey Run's pictures are shown in their colours."""
    return 3 if channels == 1 else channels


def _colour(source: Source, channels: int) -> Pixels:
    """The picture as people see it, at its own resolution: uint8 (H, W, 3). channels: of the Run."""
    if isinstance(source, (Path, bytes)):
        pixels = decode(source, channels=_shown_channels(channels))
    else:
        pixels = source[:, :, None] if source.ndim == 2 else source
    shown = visible(pixels)
    return _three(shown)
