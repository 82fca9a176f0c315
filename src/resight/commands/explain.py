"""``resight explain``: where in a picture the network found its answer, and whether that may be relied on.

Class activation maps need no PyTorch; the other methods, the sanity check and feature maps by stage do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from resight.commands.extras import need
from resight.commands.outputs import check_outside_runs
from resight.commands.own_data import load_own
from resight.commands.predict import Images, resolve_run, run_and_sources
from resight.errors import DataError, ImageError, UsageError
from resight.evaluation import softmax
from resight.explaining import (
    Bank,
    ClassMap,
    Explanation,
    Explanations,
    Neighbour,
    beside,
    check_head,
    class_activation,
    enlarge,
    explain_tiles,
    faithfulness,
    first_filters,
    head_of,
    make_bank,
    nearest,
    overlay,
    png,
    reference_bank,
    shrunk,
)
from resight.images import decode, printable, shown_as, visible
from resight.inference import AUTO, Predictor, Source, check_backend, unit
from resight.inference.backend import ROUTE
from resight.inference.sources import whole_of
from resight.inference.tasks import labels_of
from resight.inference.tiled import only_whole
from resight.runs import REFERENCE, Run, open_artifact
from resight.runs.storage import storage_errors, write_atomic
from resight.samples import SampleSet

if TYPE_CHECKING:
    from resight.attribution import Explained

CAM = "cam"
METHODS = (CAM, "gradcam++", "integrated-gradients", "smoothgrad", "occlusion")
TOP, NEAREST = 3, 6
COMPARED = 300  # embedded for a Run that carries none
PAGE = "index.html"
SHOWN = 1024  # pixels a side of a picture that is cut into tiles, where it is shown beside its map
NOT_CHECKED = (
    "maps of tiles are not compared with random ones: each is what the answer is the sum of, and the comparison would "
    "answer the whole picture 363 times"
)
_SAFE = re.compile(r"[^A-Za-z0-9_-]+")
Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


def explain(
    run: Run | str | Path,
    images: Images = (),
    *,
    classes: Sequence[str] = (),
    method: str = CAM,
    top: int | None = None,
    out: str | Path = "explained",
    faithful: bool = True,
    sanity: bool = False,
    inside: bool = False,
    compare: int | None = None,
    artifact: str | None = None,
    backend: str = AUTO,
    threads: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Explanations:
    """Explain the answer for each picture: writes a PNG for each, picture and overlay side by side, and one page.

    run: a Run, its directory, or weights. images: as for ``predict``; none, with ``inside``, for the network alone.
    classes: whose evidence is shown, by name; by default that of the ``top`` most probable ones (3). method: ``cam``,
    or with the extra ``train`` ``gradcam++``, ``integrated-gradients``, ``smoothgrad``, ``occlusion``. out: a folder;
    files of these names in it are replaced. faithful: compare the first map of each picture with 19 random maps, which
    takes 363 answers. sanity: compare it with the maps of three networks with random weights (extra ``train``).
    inside: also show the first filters, and feature maps by stage (extra ``train``). compare: how many training
    pictures are looked through for the nearest, at most; 0: none; by default all that the Run carries, or 300 where
    it carries none. say: is told the progress.

    A picture that cannot be used is an Explanation with ``error``. Raises UsageError for wrong arguments, RunError for
    a Run that is damaged or whose network does not end in average pooling and one linear layer (``cam``), MissingExtra
    for what is not installed, StorageError when writing fails.
    """
    _check(method, top, classes, compare)
    need("the page of explanations", "report", "jinja2", "matplotlib")
    alone = inside and isinstance(images, list | tuple) and not images
    if alone and (classes or top is not None or method != CAM or sanity or not faithful):
        raise UsageError(
            "--class, --top, --method, --sanity and --no-faithfulness are about pictures, and there are none",
            hint="name pictures, or leave these options out",
        )
    if artifact is not None and (method != CAM or sanity or inside):
        raise UsageError("--artifact is for class activation maps: the rest looks at the network in PyTorch")
    if artifact is not None and (why := open_artifact(resolve_run(run), artifact).card.no_maps):
        raise UsageError(why, hint="explain the Run itself: leave --artifact out")
    if method != CAM or sanity or (inside and not alone):
        need("explaining with gradients and activations", "train", "torch", "captum")
    if method != CAM or sanity or inside:
        only_whole(resolve_run(run), "--method, --sanity and --inside")
    check_backend(backend)
    check_outside_runs(Path(out))
    opened, sources = (resolve_run(run), []) if alone else run_and_sources(run, images)
    targets = [_class_number(opened, name) for name in dict.fromkeys(classes)]
    work = _Work(
        opened, method, targets, top or TOP, faithful, sanity, inside, artifact, backend, threads, compare, say
    )
    folder = Path(out)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    items, entries, embeddings = [], [], []
    for number, source in enumerate(sources, start=1):
        name = str(source) if isinstance(source, Path) else f"#{number - 1}"
        say(f"explaining {number} of {len(sources)}: {printable(name)}")
        try:
            item, entry, embedding = work.explain(source, name, folder / _file_name(number, name))
        except ImageError as error:
            items.append(Explanation(name, error=error.reason))
            continue
        items.append(item)
        entries.append(entry)
        embeddings.append(embedding)
    result = Explanations(opened.path, method, folder / PAGE, tuple(items), tuple(work.notes))
    from resight.reporting.explanations import write

    classes_there = work.samples.classes if work.samples else ()
    own = unit(np.stack(embeddings)) if embeddings else None
    write(result, entries, work.bank, classes_there, own, first_filters(opened) if inside else None)
    return result


def _check(method: str, top: int | None, classes: Sequence[str], compare: int | None) -> None:
    if method not in METHODS:
        raise UsageError(f"there is no method {printable(method)!r}", hint=f"methods: {', '.join(METHODS)}")
    if top is not None and classes:
        raise UsageError("--top and --class contradict each other: the classes shown are those named")
    if top is not None and (type(top) is not int or top < 1):
        raise UsageError(f"top is {top!r}; expected a whole number, 1 or more")
    if compare is not None and (type(compare) is not int or compare < 0):
        raise UsageError(f"compare is {compare!r}; expected a whole number, 0 or more")


def _class_number(run: Run, name: str) -> int:
    if name not in run.classes:
        from difflib import get_close_matches

        near = get_close_matches(name, run.classes, n=3) or list(run.classes[:10])
        raise UsageError(
            f"the Run knows no class {printable(name)!r}",
            hint=f"for example: {', '.join(printable(known) for known in near)}",
        )
    return run.classes.index(name)


def _file_name(number: int, name: str) -> str:
    """``001-cat.png``: a number, and what is harmless of the picture's name."""
    stem = _SAFE.sub("-", Path(name).stem).strip("-")[:40]
    return f"{number:03d}-{stem}.png" if stem else f"{number:03d}.png"


@dataclass
class _Work:
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
        features, rows, logits, embedding, *taken = self.predictor.ask(
            square[None], ("features", "probabilities", "logits", "embedding", *((ROUTE,) if routes else ()))
        )
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
        item = replace(item, route=routes[int(taken[0][0])] if routes else None)
        item = self._checked(self._known(item, embedding), square, shown[0])
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
        item = self._known(item, found.embedding[None])
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

    def _known(self, item: Explanation, embedding: Floats) -> Explanation:
        """With what ``predict`` says of it: whether it is unlike the training data."""
        unknowns = self.predictor.unknowns
        if unknowns is None:
            return item
        score = float(unknowns.scorer(embedding)[0])
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
