"""The sessions of one graph: one for each number of threads that ask at the same time, opened when first needed."""

from __future__ import annotations

from pathlib import Path
from threading import Lock

from resight.errors import RunError
from resight.inference.backend import Backend, open_backend
from resight.runs.storage import sha256_of


class Sessions:
    """All with one backend and from one file; weights: the hash of a second one, see ``open_backend``.

    The first is opened at once, for ``callers``. Safe to call from several threads. Raises what ``open_backend``
    raises.
    """

    def __init__(
        self, backend: str, path: Path, threads: int, *, sha256: str | None, callers: int, weights: str | None = None
    ) -> None:
        self._backend, self._path, self._threads, self._weights = backend, path, threads, weights
        self._sha256 = sha256 or sha256_of(path)  # all are of the same bytes, also before the Run is sealed
        self._lock = Lock()
        self._asked: set[int] = set()
        self._open = {callers: self._opened(callers)}

    @property
    def any(self) -> Backend:
        """One that is open, for a question that does not decide how the next ones are asked."""
        return next(iter(self._open.values()))

    def of(self, callers: int) -> Backend:
        """For so many threads that ask at the same time.

        One that nobody has asked for is given up when another is opened. Where the file is gone or was changed, one
        that is open answers as well, if more slowly.
        """
        with self._lock:
            if callers not in self._open:
                try:
                    opened = self._opened(callers)
                except RunError:
                    return self.any
                kept = {number: session for number, session in self._open.items() if number in self._asked}
                self._open = kept | {callers: opened}
            self._asked.add(callers)
            return self._open[callers]

    def _opened(self, callers: int) -> Backend:
        return open_backend(
            self._backend, self._path, self._threads, sha256=self._sha256, weights=self._weights, callers=callers
        )
