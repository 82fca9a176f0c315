"""One JSON object a line on stderr. What strangers wrote stands in it as escapes (``dump_json``)."""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress
from typing import Any

from resight.inference import dump_json

_LONGEST = 300


def log(event: str, *, level: str = "info", **fields: Any) -> None:
    """Writes one line. Texts longer than 300 characters are cut, but for a ``traceback``."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03d}Z"
    short = {name: _short(value) if name != "traceback" else value for name, value in fields.items()}
    with suppress(OSError, ValueError):  # nobody reads the log any more: answers go on
        sys.stderr.write(dump_json({"time": stamp, "level": level, "event": event, **short}) + "\n")
        sys.stderr.flush()


def _short(value: Any) -> Any:
    return value[:_LONGEST] + "…" if isinstance(value, str) and len(value) > _LONGEST else value


class JsonHandler(logging.Handler):
    """What libraries log, in the same form."""

    def emit(self, record: logging.LogRecord) -> None:
        log("library", level=record.levelname.lower(), logger=record.name, message=record.getMessage())


def take_over_logging() -> None:
    """Sends warnings of all libraries through ``log``. What a stranger's request can cause at will stays silent: it is
    answered, counted and logged by us.
    """
    logging.basicConfig(level=logging.WARNING, handlers=[JsonHandler()], force=True)
    for name in ("python_multipart", "python_multipart.multipart", "uvicorn.error"):
        logging.getLogger(name).setLevel(logging.ERROR)
