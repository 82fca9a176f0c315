"""The answering side of a Run: pictures in, predictions out, in order and in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resight.errors import DataError, ImageError, RunError, UsageError
from resight.images import FORMATS
from resight.inference.answers import Answers, Outputs, bad_files, reasons
from resight.inference.backend import AUTO, PATCHES, ROUTE, Backend, Floats, Pixels, thread_count
from resight.inference.choose import choose, only_choice
from resight.inference.fits import check_fits
from resight.inference.patches import LOOKED, check_looking
from resight.inference.plan import check_routes
from resight.inference.predicted import described, predicted
from resight.inference.prediction import Prediction
from resight.inference.sessions import Sessions
from resight.inference.sharing import UNLIKE, Sharing, is_few
from resight.inference.sources import Source, square_of, whole_of
from resight.inference.tasks import only_answering
from resight.inference.tiled import TiledSharing, only_whole
from resight.inference.unknown import Reference, Unknowns, read_reference, read_unknowns
from resight.runs import ONNX, REFERENCE, Artifact, Run, RunCard, open_artifact
from resight.samples import SampleSet

EMBEDDING = "embedding"
BATCH = 8
"""Pictures computed at a time, where nothing else is said. More were not quicker, one was slower."""


class Predictor:
    """Answers with a sealed Run.

    backend: a name in ``resight.inference.BACKENDS``, or ``auto``: the quickest by what ``resight bench`` stored;
    ``choice`` says which and why. threads: default: all processors that this process may use. batch: the most
    pictures computed at a time by one thread; it changes speed and memory, not answers. pictures: how many will be
    asked for, as far as ``auto`` must know; None: many. artifact: answer with what was exported under this name, by its
    own backend and with its own temperature and threshold; ``card`` has these. embeds: only ``embed``, ``embeddings``
    and ``ask`` for embeddings and features will be called, so a Run that was pretrained without labels will do.

    How threads work is decided for each call: see ``Sharing``. A Predictor that is asked for many pictures and for few
    holds the network twice.

    **The same picture gets the same answer alone and in any batch**, within 1e-6 in probability for fp32
    graphs. No padding is needed for that: with onnxruntime 1.32 the answers were equal to the bit for
    batches of 1 to 32 and 1 or 2 threads (resnet18 at 224 px, and small graphs of 7 to 2048 features and 2
    to 1000 classes; AMD EPYC). ONNX Runtime promises no equality to the bit, and another processor may sum
    in another order.

    Memory, besides: each thread holds one batch of squares (S, S, C), or two, and one picture in full size.

    Raises RunError for a model.onnx that is missing, damaged or does not fit the Run's card, UsageError for
    wrong arguments, MissingExtra for a backend that is not installed.
    """

    def __init__(
        self,
        run: Run,
        *,
        backend: str = AUTO,
        threads: int | None = None,
        batch: int = BATCH,
        pictures: int | None = None,
        artifact: str | Artifact | None = None,
        embeds: bool = False,
    ) -> None:
        if not embeds:
            only_answering(run, "an answer")
        if type(batch) is not int or batch < 1:
            raise UsageError(f"batch is {batch!r}; expected a whole number, 1 or more")
        self.run = run
        self.artifact = open_artifact(run, artifact) if isinstance(artifact, str) else artifact
        self.batch = batch
        self.threads = thread_count(threads)
        callers = 1 if pictures is not None and is_few(pictures, self.threads) else self.threads
        weights = None
        if self.artifact is None:
            self.graph, sha256 = run.file(ONNX), run.card.files.get(ONNX)
            self.choice = choose(backend, sha256, self.threads, batch, pictures=pictures, callers=callers)
        else:
            self.graph, sha256, weights = self.artifact.graph, self.artifact.sha256, self.artifact.weights
            self.choice = only_choice(backend, self.artifact)
            check_routes(self.artifact)
            check_looking(self.artifact)
        self._sessions = Sessions(
            self.choice.name, self.graph, self.threads, sha256=sha256, callers=callers, weights=weights
        )
        self.tiled: TiledSharing | None = None
        """Of a Run that cuts pictures into tiles, whose answers are pooled: then there are no squares to ask for."""
        if run.card.geometry.kind == "tiles":
            self.tiled = TiledSharing(self._sessions, self.threads, batch, self._computed, self._unlike, self)
        self._sharing = self.tiled or Sharing(self._sessions, self.threads, batch, self._computed)
        self._width = check_fits(self.graph, self.card, partial(self._computed, self._sessions.any))

    @property
    def card(self) -> RunCard:
        """The Run's, with the temperature, thresholds, 'unknown' and metrics of the artefact where one answers."""
        return self.run.card if self.artifact is None else self.artifact.run_card

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the outputs."""
        return self.run.classes

    @cached_property
    def unknowns(self) -> Unknowns | None:
        """How the Run tells pictures unlike its training data, read at the first use; None where it does not.

        Raises RunError as ``reference`` does.
        """
        own = None if self.routes else lambda: self.reference
        return read_unknowns(self.run, self.card.unknown, own) if self.card.unknown else None

    @cached_property
    def reference(self) -> Reference:
        """The training pictures that the Run carries, read at the first use.

        Raises RunError for a reference that is missing, changed or damaged, or does not fit the network.
        """
        found = read_reference(self.run)
        if found.bank.shape[1] != self._width:
            raise RunError(
                f"{self.run.path / REFERENCE} is of embeddings of {found.bank.shape[1]} numbers, {ONNX} answers with "
                f"{self._width}",
                hint="restore both files from one copy",
            )
        return found

    def run_pixels(self, pixels: Pixels) -> Outputs:
        """uint8 (N, S, S, C), N ≥ 1, after geometry → all that is answered for these N, ``batch`` at a time.

        Raises UsageError for pixels that do not fit, RunError when an answer is not finite.
        """
        return Outputs(*self.ask(pixels, ("probabilities", "logits", "embedding")))

    def ask(self, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
        """As ``run_pixels``, for any of probabilities, logits, embedding and ``features`` (N, D, h, w), in
        the order of ``outputs``. Raises UsageError also where pictures are cut into tiles.
        """
        only_whole(self.run, "asking for squares")
        size, channels = self.run.card.geometry.size, self.run.card.channels
        if (
            pixels.dtype != np.uint8
            or pixels.ndim != 4
            or pixels.shape[1:] != (size, size, channels)
            or not len(pixels)
        ):
            raise UsageError(
                f"expected pixels of uint8 (N, {size}, {size}, {channels}) with N ≥ 1, "
                f"found {pixels.dtype} {pixels.shape}"
            )
        return self._sharing.ask(pixels, outputs)

    def _computed(self, session: Backend, pixels: Pixels, outputs: Sequence[str]) -> list[Floats]:
        """What is asked for, where ``UNLIKE`` is the score of the embedding; several graphs give it themselves, each of
        its own. Raises RunError when it is not finite.
        """
        scored = UNLIKE in outputs and not self.routes
        found = session.answer(pixels, [EMBEDDING if scored and name == UNLIKE else name for name in outputs])
        if not all(np.isfinite(array).all() for array in found):
            raise RunError(
                f"{self.run.path} answered with numbers that are not finite",
                hint="the network is damaged or overflows: train or import it again",
            )
        if scored and self.unknowns is not None:
            place = outputs.index(UNLIKE)
            found[place] = self._unlike(found[place])
        return found

    def _unlike(self, embeddings: Floats) -> Floats:
        """The scores of embeddings (N, D), (N,). Raises RunError where one is not finite."""
        assert self.unknowns is not None
        assert self.unknowns.scorer is not None
        with np.errstate(all="ignore"):  # what overflows is refused in the next line
            scores = self.unknowns.scorer(embeddings)
        if not np.isfinite(scores).all():
            raise RunError(
                f"{self.run.path / REFERENCE} gives scores that are not finite", hint="restore it from a copy"
            )
        return scores

    def compute(self, squares: Pixels, outputs: Sequence[str], *, alone: bool) -> list[Floats]:
        """As ``ask``, in the calling thread and in one piece: for a server, whose threads ask at the same time.

        squares: uint8 (N, S, S, C), N ≥ 1. outputs: ``UNLIKE``, float32 (N,), is one of them where ``unknowns`` is not
        None. alone: nobody else asks now, so all threads work on these; else as many callers as threads are expected.
        """
        return self._computed(self._sessions.of(1 if alone else self.threads), squares, outputs)

    def square(self, source: Source, *, max_pixels: int | None = None, formats: Sequence[str] = FORMATS) -> Pixels:
        """What the network sees of a picture, uint8 (S, S, C): for ``ask``. Raises ImageError for a file or bytes that
        cannot be used, of other formats or larger than ``max_pixels`` (None: ``Geometry.max_pixels``); UsageError for
        other types, and where pictures are cut into tiles.
        """
        return square_of(self.run.card, source, max_pixels=max_pixels, formats=formats)

    @property
    def needed(self) -> tuple[str, ...]:
        """The outputs that ``prediction`` takes, in its order."""
        return self._asked("probabilities")

    def prediction(self, name: str, row: Sequence[Floats], top: int) -> Prediction:
        """The answer for one picture, of its row of each of ``needed``: what ``predict`` gives for it."""
        own = dict(zip(self.needed, row, strict=True))
        routes = own.get(ROUTE), self.routes
        return predicted(name, self.card, row[0], top, own.get(UNLIKE), self.unknowns, *routes, own.get(LOOKED))

    @property
    def routes(self) -> tuple[str, ...]:
        """Of an adaptive artefact: names of the graphs of which one answers for each picture; else none."""
        return () if self.artifact is None else self.artifact.card.routes

    @property
    def looks(self) -> bool:
        """Whether it looks at some tiles of a picture only."""
        return self.choice.name == PATCHES

    @property
    def told(self) -> tuple[str, ...]:
        """What answers say besides, for the artefact that gives them: the names in JSON."""
        return (*(("route",) if self.routes else ()), *(("tiles",) if self.looks else ()))

    def _asked(self, *outputs: str) -> tuple[str, ...]:
        """These outputs, the score where the Run has one, the path where there are several, the tiles where some are
        chosen. Reads the reference before threads want it.
        """
        more = ((UNLIKE, self.unknowns), (ROUTE, self.routes), (LOOKED, self.looks))
        return (*outputs, *(name for name, there in more if there))

    def predict(self, sources: Iterable[Source], top: int = 5, *, start: int = 0) -> Iterator[Prediction]:
        """Answer each picture, in order: files, encoded pictures (bytes), or decoded ones (uint8 (H, W) or
        (H, W, C)).

        A file or bytes that cannot be used give a Prediction with ``error`` in their place. ``sources`` may
        be endless: it is read only a few batches ahead. ``top`` is limited to the number of classes. The first
        ``start`` pictures are passed over: see ``restart``. Raises UsageError for ``top`` below 1 and for sources of
        other types.
        """
        if type(top) is not int or top < 1:
            raise UsageError(f"top is {top!r}; expected a whole number, 1 or more")
        return self._predictions(sources, top, start)

    def restart(self, done: int, number: int) -> int:
        """Where to ``start`` again when ``done`` of ``number`` pictures are answered, so that the others are computed
        in the very groups, and the very way, in which they would have been: at most a few pictures before ``done``.
        """
        return self._sharing.restart(done, number)

    def _predictions(self, sources: Iterable[Source], top: int, start: int) -> Iterator[Prediction]:
        for name, answer in self._each(sources, self._asked("probabilities"), start):
            if isinstance(answer, ImageError):
                yield Prediction(name, None, None, error=answer.reason)
            else:
                yield self.prediction(name, answer, top)

    def _each(
        self, sources: Iterable[Source], outputs: Sequence[str], start: int = 0
    ) -> Iterator[tuple[str, list[Floats] | ImageError]]:
        """For each picture, in order, its name and a row of each output, or why there is none."""

        def prepare(item: tuple[int, Source]) -> Pixels:
            return whole_of(self.run.card, item[1]) if self.tiled else self.square(item[1])

        number = len(sources) if isinstance(sources, Sized) else None
        for (position, source), answer in self._sharing.answered(
            islice(enumerate(sources), start, None), number, prepare, outputs
        ):
            yield str(source) if isinstance(source, Path) else f"#{position}", answer

    def answers(self, samples: SampleSet, indices: Sequence[int]) -> Answers:
        """Read and answer the samples at these positions, in order. What cannot be read is in ``bad``, not
        raised.

        Raises DataError when not one could be read.
        """
        rows, kept, bad = self._sample_rows(samples, indices, self._asked("logits", "probabilities"))
        logits, probabilities, *more = rows
        calibrated = (logits / self.card.temperature).astype(np.float32)
        own = dict(zip(self._asked(), more, strict=True))
        return Answers(calibrated, probabilities, kept, bad, own.get(UNLIKE), own.get(ROUTE), own.get(LOOKED))

    def embeddings(self, samples: SampleSet, indices: Sequence[int]) -> Floats:
        """float32 (N, D) of the samples at these positions, in order. Raises DataError that lists all pictures which
        cannot be read.
        """
        (rows,), _, bad = self._sample_rows(samples, indices, (EMBEDDING,))
        if bad:
            raise bad_files(bad)
        return rows

    def embed(self, sources: Iterable[Source], top: int = 1) -> Iterator[tuple[Prediction, Floats | None]]:
        """As ``predict``, each with its embedding, float32 (D,); None for what cannot be used. A Run
        without classes gives no label.
        """
        if self.card.task == "features":
            yield from self._embedded(sources)
            return
        for name, answer in self._each(sources, (*self._asked("probabilities"), EMBEDDING)):
            if isinstance(answer, ImageError):
                yield Prediction(name, None, None, error=answer.reason), None
            else:
                yield self.prediction(name, answer[:-1], top), answer[-1]

    def _embedded(self, sources: Iterable[Source]) -> Iterator[tuple[Prediction, Floats | None]]:
        """``embed`` of a Run that has no classes: the Prediction names the picture, and says whether it is unknown."""
        for name, answer in self._each(sources, self._asked(EMBEDDING)):
            if isinstance(answer, ImageError):
                yield Prediction(name, None, None, error=answer.reason), None
                continue
            unlike = answer[1] if self.unknowns is not None else None
            yield described(name, unlike, self.unknowns), answer[0]

    def _sample_rows(
        self, samples: SampleSet, indices: Sequence[int], outputs: Sequence[str]
    ) -> tuple[list[Floats], NDArray[np.int64], tuple[tuple[str, str], ...]]:
        """The outputs for the samples that could be read, their positions int64 (N,), and the others with reasons."""

        def prepare(index: int) -> Pixels:
            geometry = self.run.card.geometry
            pixels = samples.read(samples.samples[index], self.run.card.channels, geometry=geometry)
            return pixels if self.tiled else geometry.apply(pixels)

        parts: list[list[Floats]] = []
        kept: list[int] = []
        bad: list[tuple[str, str]] = []
        for index, answer in self._sharing.answered(indices, len(indices), prepare, outputs):
            if isinstance(answer, ImageError):
                bad.append((samples.samples[index].source, answer.reason))
            else:
                kept.append(index)
                parts.append(answer)
        if not parts:
            raise DataError(
                f"none of {len(indices):,} pictures could be read" + (f": {reasons(bad)}" if bad else ""),
                hint="check the files: each one is named with its reason above",
            )
        return [np.stack(rows) for rows in zip(*parts, strict=True)], np.array(kept, np.int64), tuple(bad)

    def answers_of(self, samples: SampleSet, part: str) -> tuple[Answers, NDArray[Any]]:
        """Of a part (train, val or test): its answers, and its labels: `SampleSet.targets`.

        Raises DataError that lists all pictures which cannot be read, or when the classes of ``samples``
        are not the Run's in the Run's order, or are of another task, or the part is empty.
        """
        if samples.classes != self.classes or samples.task != self.run.card.task:
            raise DataError("the classes of the data are not those of the Run, in the same order, of the same task")
        indices = [i for i, sample in enumerate(samples.samples) if sample.split == part]
        found = self.answers(samples, indices)
        if found.bad:
            raise bad_files(found.bad)
        return found, samples.targets([samples.samples[i] for i in found.indices])
