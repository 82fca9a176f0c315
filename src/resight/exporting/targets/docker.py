"""``docker``: a context that builds a small image, which serves the Run without PyTorch."""

from __future__ import annotations

import shutil
from importlib.metadata import requires, version
from pathlib import Path

from resight.exporting.about import about
from resight.exporting.gate import Answer
from resight.exporting.targets.written import Written
from resight.inference import Predictor
from resight.runs import CARD, Artifact, Run
from resight.runs.storage import write_atomic

DOCKERFILE, REQUIREMENTS, RUN, PACKAGE = "Dockerfile", "requirements.txt", "run", "resight"
PYTHON = "3.12"
_DOCKERFILE = f"""\
# Made by resight export.  docker build -t NAME .  docker run --rm -p 8000:8000 --read-only --tmpfs /tmp NAME
# Asked by a service's name? Add to the end of docker run: --allow-host THAT-NAME
FROM python:{PYTHON}-slim
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONPATH=/srv RESIGHT_CACHE=/tmp/resight
COPY {REQUIREMENTS} /srv/{REQUIREMENTS}
RUN pip install --no-cache-dir -r /srv/{REQUIREMENTS} && useradd --system --no-create-home --uid 10001 resight
COPY {PACKAGE} /srv/{PACKAGE}
COPY {RUN} /srv/{RUN}
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["python", "-c", \\
  "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "resight.cli", "serve", "/srv/{RUN}", "--host", "0.0.0.0", "--port", "8000"]
"""


def write(run: Run, folder: Path) -> Written:
    """The Run without its checkpoints and artefacts, the package as it is here, and versions of what it needs."""
    run.verify()
    (folder / RUN).mkdir()
    for name in (CARD, *run.card.files):
        shutil.copyfile(run.path / name, folder / RUN / name)
    package = Path(__file__).parents[2]
    shutil.copytree(package, folder / PACKAGE, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    write_atomic(folder / REQUIREMENTS, "".join(f"{name}=={version(name)}\n" for name in needed()).encode())
    write_atomic(folder / DOCKERFILE, _DOCKERFILE.encode())
    for path in folder.rglob("*"):  # the image's user is another one, whatever the umask was here
        path.chmod(0o755 if path.is_dir() else 0o644)
    notes = [
        "made and checked for form; the image was not built",
        "whoever may reach the port may ask it: put it behind a proxy that knows its users, and name the hosts that it "
        "is asked for by --allow-host",
    ]
    return Written(DOCKERFILE, notes, needed())


def needed() -> list[str]:
    """The distributions that answering and serving need, without what these need themselves."""
    found = []
    for line in requires("resight") or ():
        requirement, _, marker = line.partition(";")
        if not marker.strip() or 'extra == "serve"' in marker.replace("'", '"'):
            found.append(requirement.strip().split(">")[0].split("=")[0].split("[")[0].strip())
    return sorted(found)


def said(artifact: Artifact) -> dict[str, str]:
    """By the Run's own card in the context."""
    return about(Run.open(artifact.path / RUN).card)


def answer(_: Run, artifact: Artifact, threads: int) -> Answer:
    """As its own Run answers, through ONNX Runtime as in the image."""
    artifact.verify()
    predictor = Predictor(Run.open(artifact.path / RUN), backend="onnxruntime", threads=threads)
    return lambda pixels: predictor.run_pixels(pixels).probabilities
