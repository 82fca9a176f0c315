"""Fetches one file over HTTP: resumed after a cut, checked against its hash, never half there."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from resight.errors import DownloadError, RunLocked
from resight.runs.storage import exclusive, sha256_of, storage_errors

Progress = Callable[[int, int | None], None]
"""Called with (bytes so far, bytes in all or None)."""

_ATTEMPTS = 4
_PIECE = 1 << 20
_TIMEOUT = 30.0  # seconds without a byte
_PATIENCE = 1800.0  # seconds to wait for another process


def mirrored(url: str) -> str:
    """The address that is really asked: ``$RESIGHT_WEIGHTS_MIRROR`` takes the place of scheme and host."""
    if mirror := os.environ.get("RESIGHT_WEIGHTS_MIRROR"):
        return mirror.rstrip("/") + urllib.parse.urlsplit(url).path
    return url


def download(url: str, target: Path, *, sha256: str, progress: Progress | None = None) -> Path:
    """Fetches ``url`` to ``target``, unless it is there already, and returns ``target``.

    ``sha256`` is the expected hash or its first digits (PyTorch puts eight of them into its file names). The
    bytes go to ``target.part``; a connection that breaks off is resumed by HTTP Range, in this call or a
    later one. Only a complete file with the right hash is moved to ``target``. Of several processes that want
    it, one downloads and the others wait. A file that is there already, maybe put there by hand, is checked.

    Raises DownloadError when the address cannot be reached, says no, or sends other bytes than promised (the
    download is removed then); StorageError when it cannot be written.
    """
    if target.is_file():
        return _checked(target, sha256)
    address = mirrored(url)
    if urllib.parse.urlsplit(address).scheme not in ("http", "https"):
        raise DownloadError(f"refused to download {address}: only http and https addresses are used")
    part = target.with_name(target.name + ".part")
    with storage_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _alone(target.parent):
        if target.is_file():  # another process was faster
            return _checked(target, sha256)
        _fetch_all(address, part, target, progress)
        found = sha256_of(part)
        if not found.startswith(sha256.lower()):
            with storage_errors(part):
                part.unlink()
            raise DownloadError(
                f"{address} arrived damaged or is another file: its sha256 begins with "
                f"{found[: len(sha256)]}, expected {sha256}; it was removed",
                hint="try again; if it repeats, a proxy or mirror on the way changes the file",
            )
        with storage_errors(target):
            os.replace(part, target)
    return target


def _checked(target: Path, sha256: str) -> Path:
    found = sha256_of(target)
    if found.startswith(sha256.lower()):
        return target
    raise DownloadError(
        f"{target} is damaged or another file: its sha256 begins with {found[: len(sha256)]}, expected {sha256}",
        hint="remove it, and it is downloaded again",
    )


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Waits until no other process downloads into this directory, then keeps others out."""
    end = time.monotonic() + _PATIENCE
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(exclusive(directory))
                break
            except RunLocked as error:
                if time.monotonic() > end:
                    raise DownloadError(
                        f"another process is downloading into {directory}, for {_PATIENCE / 60:.0f} minutes",
                        hint="stop it, or choose another directory in RESIGHT_CACHE",
                    ) from error
                time.sleep(0.2)
        yield


def _fetch_all(address: str, part: Path, target: Path, progress: Progress | None) -> None:
    """Asks until the file is complete; every attempt goes on where the one before broke off."""
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            if _fetch_rest(address, part, progress):
                return
            reason = "the connection broke off"
        except urllib.error.HTTPError as error:
            if error.code < 500 or attempt == _ATTEMPTS:
                raise _failure(f"the server answered {error.code} {error.reason}", address, target) from error
            reason = f"the server answered {error.code}"
        except (urllib.error.URLError, HTTPException, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", error))
            if attempt == _ATTEMPTS or isinstance(error, urllib.error.URLError):
                raise _failure(reason, address, target) from error
    raise _failure(f"{reason} {_ATTEMPTS} times", address, target)


def _failure(reason: str, address: str, target: Path) -> DownloadError:
    return DownloadError(
        f"could not download {address}: {reason}",
        hint=f"check the connection and try again; or fetch it elsewhere and put it at {target}; "
        "or name a mirror in RESIGHT_WEIGHTS_MIRROR",
    )


def _fetch_rest(address: str, part: Path, progress: Progress | None) -> bool:
    """Appends what is missing to ``part``. Returns whether the file is complete."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(address, headers={"User-Agent": "resight"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response: HTTPResponse = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing is left to send, or the file changed: the hash decides
            return True
        raise
    with response:
        if response.status != 206:  # the server sends everything again
            have = 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        with storage_errors(part, needed=total):
            out = part.open("ab" if have else "wb")
        with out:
            while piece := response.read(_PIECE):
                with storage_errors(part, needed=total):
                    out.write(piece)
                have += len(piece)
                if progress:
                    progress(have, total)
            with storage_errors(part):
                out.flush()
                os.fsync(out.fileno())
    return total is None or have >= total
