"""Requests that no honest client sends, by the hundreds: no crash, no 5xx, no memory that stays."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path

import pytest

from resight.runs import Run

from .live import Live, Process, encoded, until

Made = tuple[bytes, str]
PATHS = ("/predict", "/explain", "/v2/models/m/infer")


def _request(path: str, body: bytes, kind: str, *more: str, length: int | None = None) -> bytes:
    head = [f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", *more, "Connection: close"]
    return "\r\n".join([*head, f"Content-Length: {len(body) if length is None else length}", "", ""]).encode() + body


def _form(data: bytes, name: str = "f") -> bytes:
    head = f'--b\r\nContent-Disposition: form-data; name="f"; filename="{name}"\r\n\r\n'.encode("utf-8", "replace")
    return head + data + b"\r\n--b--\r\n"


def random_bytes(rng: random.Random, odd: Sequence[bytes]) -> bytes:
    return rng.randbytes(rng.randrange(1, 3000))


def random_body(rng: random.Random, odd: Sequence[bytes]) -> bytes:
    kind = rng.choice(
        ["image/png", "multipart/form-data; boundary=b", "application/json", "text/html", "\x7f", "image/"]
    )
    return _request(rng.choice(PATHS), rng.randbytes(rng.randrange(3000)), kind)


def odd_picture(rng: random.Random, odd: Sequence[bytes]) -> bytes:
    data = rng.choice(odd)
    return _request(rng.choice(PATHS[:2]), _form(data), "multipart/form-data; boundary=b")


def damaged_picture(rng: random.Random, odd: Sequence[bytes]) -> bytes:
    data = bytearray(rng.choice(odd)[:20_000])
    for _ in range(rng.randrange(1, 20)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    return _request(rng.choice(PATHS[:2]), bytes(data), "image/jpeg")


def cut_form(rng: random.Random, odd: Sequence[bytes]) -> bytes:
    body = _form(encoded(), "".join(chr(rng.randrange(32, 0xD000)) for _ in range(9)))
    cut = rng.randrange(len(body) - 4)  # the last line break may be missing
    kind = rng.choice(["multipart/form-data; boundary=b", 'multipart/form-data; boundary="b', "multipart/form-data"])
    return _request(PATHS[0], body[:cut], kind)


def wrong_length(rng: random.Random, odd: Sequence[bytes]) -> bytes:
    body = _form(encoded())
    length = rng.choice([len(body) - 7, len(body) + 7, -1, 2**63, 10**30, 0])
    return _request(rng.choice(PATHS), body, "multipart/form-data; boundary=b", length=length)


def wrong_chunks(rng: random.Random, odd: Sequence[bytes]) -> bytes:
    head = "POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + rng.choice(
        [b"zz\r\n", b"5\r\nab", b"ffffffffffffffffff\r\n", b"-1\r\n", b"3\r\nabcd\r\n0\r\n\r\n"]
    )


def deep_json(rng: random.Random, odd: Sequence[bytes]) -> bytes:
    depth = rng.randrange(10, 20_000)
    body = rng.choice([b"[", b'{"inputs":', b'{"a":[']) * depth + rng.choice([b"", b"1"])
    return _request(PATHS[2], body, "application/json")


def wrong_tensor(rng: random.Random, odd: Sequence[bytes]) -> bytes:
    values = [0, -1, 1, 10**20, 8, None, "8", 1.5, [], True]
    tensor = {
        "name": rng.choice(["pixels", "image", 3]),
        "datatype": rng.choice(["UINT8", "BYTES", "FP32", None]),
        "shape": [rng.choice(values) for _ in range(rng.randrange(5))],
        "parameters": {"binary_data_size": rng.choice(values)},
    }
    text = json.dumps({"inputs": [tensor]}).encode()
    length = rng.choice([len(text), len(text) - 1, 0, 10**9])
    binary = struct.pack("<I", rng.randrange(2**32)) + rng.randbytes(rng.randrange(400))
    return _request(PATHS[2], text + binary, "x/y", f"Inference-Header-Content-Length: {length}")


def wrong_head(rng: random.Random, odd: Sequence[bytes]) -> bytes:
    line = rng.choice(["GET / HTTP/9.9", "GET", "\0\0", "POST /predict", "GET /%00 HTTP/1.1", "GET //x HTTP/1.1"])
    more = rng.choice(["Host: localhost\r\nHost: evil", "Host: " + "a" * 70_000, "X" * 50, "Host: localhost\r\n x: y"])
    return f"{line}\r\n{more}\r\n\r\n".encode()


def wrong_path(rng: random.Random, odd: Sequence[bytes]) -> bytes:
    path = "/" + "/".join(rng.choice(["..", "%2e%2e", "v2", "models", "m", "page", "%ff", "a" * 300]) for _ in range(5))
    return f"GET {path}?{'&'.join(['top=1'] * 5)} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()


WHOLE, PART = 20.0, 0.03
HOSTILE: dict[Callable[[random.Random, Sequence[bytes]], bytes], float] = {
    random_bytes: PART,
    random_body: WHOLE,
    odd_picture: WHOLE,
    damaged_picture: WHOLE,
    cut_form: WHOLE,
    wrong_length: PART,
    wrong_chunks: PART,
    deep_json: WHOLE,
    wrong_tensor: WHOLE,
    wrong_head: PART,
    wrong_path: WHOLE,
}
"""Each kind, and how many seconds to wait: for an answer, or only to see whether the server says something to a request
that is not whole.
"""


def attack(exchange: Callable[[bytes, float], bytes], odd: Path, count: int, seed: int) -> dict[str, dict[int, int]]:
    """Sends ``count`` hostile requests. How often each kind got each status; 0: closed without one."""
    rng = random.Random(seed)
    pictures = [path.read_bytes() for path in sorted(odd.rglob("*")) if path.suffix and path.is_file()]
    found: dict[str, dict[int, int]] = {}
    for kind, patience in islice(cycle(HOSTILE.items()), count):
        answer = exchange(kind(rng, pictures), patience)
        status = int(answer.split()[1]) if answer.startswith(b"HTTP/1.1 ") else 0
        seen = found.setdefault(kind.__name__, {})
        seen[status] = seen.get(status, 0) + 1
    return found


def check(found: dict[str, dict[int, int]]) -> None:
    """What may be answered: 4xx, and 200 to an odd picture that is one after all; never 5xx. Only a request that is
    not whole may stay without an answer.
    """
    for kind, seen in found.items():
        allowed = {0, *range(400, 500)} | ({200} if kind in ("odd_picture", "damaged_picture") else set())
        assert set(seen) <= allowed, (kind, seen)
        assert 0 not in seen or kind in {one.__name__ for one, patience in HOSTILE.items() if patience == PART}, kind


def test_300_hostile_requests(live: Live, odd_images: Path) -> None:
    found = attack(live.exchange, odd_images, 300, seed=1)
    check(found)
    assert sum(sum(seen.values()) for seen in found.values()) == 300
    assert live.client.post("/predict", files={"f": encoded()}).status_code == 200
    until(lambda: live.metric("resight_pending") == live.metric("resight_pending_bytes") == 0)


@pytest.mark.soak
def test_10_000_hostile_requests_in_flat_memory(known: Run, odd_images: Path, tmp_path: Path) -> None:
    with Process(tmp_path, f"m={known.path}", "--threads", "1") as server:
        port = int(server.url.rpartition(":")[2])
        live = Live(None, port, server.client, None)  # type: ignore[arg-type]

        def resident() -> int:
            status = Path(f"/proc/{server.process.pid}/status").read_text()
            return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))

        check(attack(live.exchange, odd_images, 2000, seed=2))
        before = resident()
        check(attack(live.exchange, odd_images, 8000, seed=3))
        after = resident()
        print(f"\nresident: {before / 1024:.0f} MiB after 2,000 requests, {after / 1024:.0f} MiB after 10,000")
        assert after < before + 40 * 1024
        assert server.client.post("/predict", files={"f": encoded()}).status_code == 200
        assert 'level": "error' not in (tmp_path / "log.jsonl").read_text("utf-8")
