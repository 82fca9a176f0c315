"""Whether what a command needs is installed."""

from __future__ import annotations

from importlib.util import find_spec

from resight.errors import MissingExtra


def need(what: str, extra: str, *modules: str) -> None:
    """Raises MissingExtra, which says what to install, unless all ``modules`` are there. Imports none of them."""
    if any(find_spec(module) is None for module in modules):
        raise MissingExtra(what, extra)
