"""The server on loopback: what it answers a second beside the same Predictor offline, and what load does to it.

    python benchmarks/serving.py [--run RUN] [--photos FOLDER] [--seconds 30] [--rounds 3] [--threads 2]

First the rate of offline inference, then open-loop traffic at half, at and at twice that rate, with connections kept
open. Then SIGTERM at full load, five times; three reloads and a bad one at full load; and one JPEG at a time, in turn
over HTTP and in process. Server and traffic are two processes on the same cores: what the traffic takes is missing to
the server. Without ``--run`` an untrained ResNet-18 at 224 px, without ``--photos`` noise of 500 × 375 pixels.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

import answering
from common import measure, row, save
from open_loop import UNREACHED, Traffic, request, traffic

ENOUGH, MOST_MS, REFUSED_MS = 0.8, 3.0, 50.0
STOPS, RELOADS = 5, 3


class Server:
    """``resight serve`` in a process of its own."""

    def __init__(self, run: Path, threads: int, folder: Path) -> None:
        self._log = folder / f"log-{time.monotonic_ns()}.jsonl"
        command = [sys.executable, "-m", "resight.cli", "serve", f"m={run}", "--port", "0", "--threads", str(threads)]
        with self._log.open("wb") as stream:
            self.process = subprocess.Popen(command, stderr=stream)
        self.wait_for('"event": "listening"')
        line = next(line for line in self._log.read_text().splitlines() if "listening" in line)
        self.port = int(json.loads(line)["url"].rstrip("/").rpartition(":")[2])
        self.wait_for('"state": "ready"')

    def wait_for(self, text: str, times: int = 1) -> None:
        end = time.monotonic() + 120
        while self._log.read_text().count(text) < times:
            if self.process.poll() is not None or time.monotonic() > end:
                sys.exit(f"the server did not say {text}: {self._log.read_text()[-2000:]}")
            time.sleep(0.05)

    def refusals(self) -> list[float]:
        """Milliseconds from a request's head to its 429, as the server logged them, all so far."""
        lines = [line for line in self._log.read_text().splitlines() if '"status": 429' in line]
        return [json.loads(line)["milliseconds"] for line in lines]

    @property
    def resident(self) -> float:
        """MiB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}") as answer:
            return json.load(answer)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def offline(run: Path, pictures: list[bytes], threads: int, count: int) -> float:
    """Pictures a second of the same Predictor, asked for ``count`` in one call; warmed up before."""
    from resight.inference import Predictor
    from resight.runs import Run

    predictor = Predictor(Run.open(run), threads=threads)
    many = [pictures[number % len(pictures)] for number in range(count)]
    list(predictor.predict(many[: 8 * threads]))
    start = time.perf_counter()
    list(predictor.predict(many))
    return count / (time.perf_counter() - start)


def side(run: Path, photos: Path, threads: int, count: int) -> float:
    """``offline`` in a process of its own."""
    command = [__file__, "--side", run, photos, "--threads", str(threads), "--count", str(count)]
    return float(measure(command)["rate"])


def read(photos: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(photos.iterdir())]


def told(name: str, found: Traffic, resident: float, inside: list[float]) -> str:
    """One note about one phase. inside: the milliseconds of its refusals, as the server saw them."""
    counts, total = found.counts, sum(found.counts.values())
    middle = "/".join(f"{value:.0f}" for value in found.percentiles("200"))
    text = f"{name}: {total:,} requests, {found.rate:.1f} answered a second; latency p50/p95/p99 {middle} ms"
    if refused := counts["429"]:
        times = found.percentiles("429", (50, 99, 100))
        shown = "/".join(f"{value:.1f}" for value in times)
        within = "/".join(f"{float(np.percentile(inside, p)):.1f}" for p in (50, 99, 100))
        text += f"; {100 * refused / total:.1f} % refused (429), p50/p99/max {shown} ms, in the server {within} ms"
        text += f"; the traffic itself was up to {1000 * found.own:.1f} ms late"
    if others := {status: n for status, n in counts.items() if status not in ("200", "429")}:
        text += f"; others: {others}"
    return f"{text}; resident {resident:.0f} MiB"


def stops(run: Path, threads: int, requests: list[bytes], rate: float, folder: Path) -> str:
    """SIGTERM at full load: a request that was sent and not answered is a failure, one that found no server is none."""
    clean, answered, refused = 0, 0, 0
    for number in range(STOPS):
        server = Server(run, threads, folder)

        async def main(server: Server = server, number: int = number) -> Traffic:
            asked = asyncio.create_task(traffic(server.port, requests, rate, 6, seed=number))
            await asyncio.sleep(2.5)
            server.process.send_signal(signal.SIGTERM)
            return await asked

        counts = asyncio.run(main()).counts
        code = server.process.wait(60)
        good = code == 0 and set(counts) <= {"200", "429", "503", UNREACHED}  # none BROKEN
        if not good:
            print(f"stop {number}: exit {code}, {dict(counts)}", file=sys.stderr)
        clean += good
        answered, refused = answered + counts["200"], refused + counts["503"]
    return (
        f"SIGTERM at full load: {clean} of {STOPS} without a broken request and with exit 0 "
        f"({answered:,} answered, {refused:,} told 503 while it drained)"
    )


def reloads(run: Path, threads: int, requests: list[bytes], rate: float, folder: Path) -> str:
    """Good reloads, then a bad one, at full load."""
    copy = folder / "reloaded"
    shutil.copytree(run, copy)
    server = Server(copy, threads, folder)
    version = server.get("/v2/models/m")["versions"]

    async def main() -> Traffic:
        asked = asyncio.create_task(traffic(server.port, requests, rate, 4 * (RELOADS + 1)))
        for _ in range(RELOADS):
            server.process.send_signal(signal.SIGHUP)
            await asyncio.sleep(4)
        (copy / "model.onnx").write_bytes(b"damaged")
        server.process.send_signal(signal.SIGHUP)
        return await asked

    counts = asyncio.run(main()).counts
    server.wait_for('"state": "stale"')
    kept = server.get("/v2/models/m")
    same = kept["versions"] == version and kept["parameters"]["state"] == "stale"
    errors = sum(n for status, n in counts.items() if status not in ("200", "429"))
    code = server.stop()
    return (
        f"{RELOADS} reloads and a bad one at full load: {counts['200']:,} answered, {counts['429']:,} refused (429), "
        f"{errors} errors; the bad one {'kept the earlier model' if same else 'REPLACED THE MODEL'}; exit {code}"
    )


def singles(run: Path, server: Server, picture: bytes, threads: int, rounds: int) -> tuple[list[float], list[float]]:
    """Milliseconds of one picture over HTTP and in process, in turn: medians of rounds of 40."""
    from http.client import HTTPConnection

    from resight.inference import Predictor
    from resight.runs import Run

    predictor = Predictor(Run.open(run), threads=threads, pictures=1)
    connection = HTTPConnection("127.0.0.1", server.port)

    def http() -> Any:
        connection.request("POST", "/predict", picture, {"Content-Type": "image/jpeg"})
        return json.loads(connection.getresponse().read())["predictions"][0]["probability"]

    def here() -> Any:
        return next(predictor.predict([picture])).probability

    if abs(http() - here()) > 1e-6:
        sys.exit("the server answers differently from the Predictor")
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        times: tuple[list[float], list[float]] = ([], [])
        for _ in range(40):
            for ask, kept in zip((http, here), times, strict=True):
                start = time.perf_counter()
                ask()
                kept.append(1000 * (time.perf_counter() - start))
        for kept, medians in zip(times, found, strict=True):
            medians.append(statistics.median(kept))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="default: an untrained ResNet-18 at 224 px")
    parser.add_argument("--photos", type=Path, help="JPEG files; default: generated ones")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rounds", type=int, default=3, help="of offline inference and saturated serving, in turn")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--count", type=int, default=300, help="pictures of offline inference")
    parser.add_argument("--side", nargs=2, metavar=("RUN", "PHOTOS"), type=Path, help="used by the program itself")
    args = parser.parse_args()
    if args.side:
        print(json.dumps({"rate": offline(args.side[0], read(args.side[1]), args.threads, args.count)}))
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        run = args.run or answering.make_run("resnet18", folder / "net")
        photos = answering.photos(args.photos, folder / "photos", 32)
        pictures = read(photos)
        requests = [request(picture) for picture in pictures]
        notes = []
        capacity = side(run, photos, args.threads, args.count)
        server = Server(run, args.threads, folder)
        asyncio.run(traffic(server.port, requests, capacity / 2, 3))  # warm from here on
        notes.append(f"Offline {capacity:.1f} pictures/s; resident at the start {server.resident:.0f} MiB.")
        for name, times in (("half of that", 0.5), ("at it", 1.0), ("twice that", 2.0)):
            before = len(server.refusals())
            found = asyncio.run(traffic(server.port, requests, times * capacity, args.seconds))
            notes.append(told(f"Traffic {name}", found, server.resident, server.refusals()[before:]))
            print(notes[-1], file=sys.stderr)
        rates: tuple[list[float], list[float]] = ([], [])
        for number in range(args.rounds):
            rates[1].append(side(run, photos, args.threads, args.count))
            found = asyncio.run(traffic(server.port, requests, 2 * rates[1][-1], args.seconds / 3, seed=number))
            rates[0].append(found.rate)
        served, here = singles(run, server, pictures[0], args.threads, max(5, args.rounds))
        over = statistics.median([a - b for a, b in zip(served, here, strict=True)])
        state = "reached" if over <= MOST_MS else "missed"
        notes.append(
            f"One JPEG over HTTP: {over:.2f} ms more than in process at the median; at most {MOST_MS:g}: {state}."
        )
        notes.append(f"Exit {server.stop()} after all of this.")
        notes.append(stops(run, args.threads, requests, capacity, folder))
        notes.append(reloads(run, args.threads, requests, capacity, folder))
    close = "the probability of the first picture, within 1e-6"
    save(
        "serving",
        title="The server under load",
        target="",
        command="python benchmarks/serving.py",
        rows=[
            row(
                "pictures a second at twice capacity",
                ("served", rates[0]),
                ("offline", rates[1]),
                unit="pictures/s",
                target=ENOUGH,
                equal=close,
            ),
            row("one JPEG", ("served", served), ("in process", here), unit="ms", target=None, equal=close,
                more_is_better=False),
        ],
        notes=[*notes, f"A refusal is to come in under {REFUSED_MS:g} ms.", f"{os.cpu_count()} cores for both sides."],
        threads=args.threads,
    )  # fmt: skip


if __name__ == "__main__":
    main()
