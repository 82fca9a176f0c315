"""Names and texts of strangers, made safe to show on a terminal."""

from __future__ import annotations

import unicodedata

_HARMFUL = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


def printable(text: str, limit: int = 300) -> str:
    r"""Return ``text`` with control, bidirectional and undecodable characters written as ``\xNN`` or
    ``\uNNNN``.

    Everything else, accents and other scripts included, stays as it is. Longer than ``limit`` characters is
    cut in the middle. For display only: the result is not a file name any more.
    """
    shown = "".join(_escape(char) if unicodedata.category(char) in _HARMFUL else char for char in text)
    if len(shown) > limit:
        half = limit // 2
        shown = f"{shown[:half]}…{shown[-half:]}"
    return shown


def _escape(char: str) -> str:
    code = ord(char)
    named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
    if char in named:
        return named[char]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
