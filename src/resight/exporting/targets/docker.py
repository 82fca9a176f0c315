"""``docker``: a context that builds a small image, which serves the Run without PyTorch."""

from __future__ import annotations

import shutil
from importlib.metadata import distribution, requires, version
from pathlib import Path

from resight.exporting.about import about
from resight.exporting.gate import Answer
from resight.exporting.targets.written import Written
from resight.inference import Predictor
from resight.runs import CARD, Artifact, Run
from resight.runs.storage import write_atomic

DOCKERFILE, REQUIREMENTS, RUN, PACKAGE = "Dockerfile", "requirements.txt", "run", "resight"
COMPOSE, KUBERNETES, README, METADATA = "compose.yaml", "kubernetes.yaml", "README.md", "resight.dist-info"
PYTHON = "3.12"
_DOCKERFILE = f"""\
# Made by resight export.  docker build -t NAME .  docker run --rm -p 8000:8000 --read-only --tmpfs /tmp NAME
# Asked by another name than localhost or an address? Add to the end of docker run: --allow-host THAT-NAME
FROM python:{PYTHON}-slim
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONPATH=/srv RESIGHT_CACHE=/tmp/resight
COPY {REQUIREMENTS} /srv/{REQUIREMENTS}
RUN pip install --no-cache-dir -r /srv/{REQUIREMENTS} && useradd --system --no-create-home --uid 10001 resight
COPY {PACKAGE} /srv/{PACKAGE}
COPY {METADATA} /srv/{METADATA}
COPY {RUN} /srv/{RUN}
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s CMD ["python", "-c", \\
  "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "resight.cli", "serve", "/srv/{RUN}", "--host", "0.0.0.0", "--port", "8000"]
"""
_COMPOSE = """\
# Made by resight export.  docker compose up --build
services:
  resight: # the name that other services ask by: http://resight:8000/
    build: .
    command: ["--allow-host", "resight"]
    ports: ["127.0.0.1:8000:8000"] # this machine alone; leave it out where only other services ask
    read_only: true
    tmpfs: [/tmp]
    cap_drop: [ALL]
    security_opt: ["no-new-privileges:true"]
    stop_grace_period: 30s
    restart: on-failure
"""
_KUBERNETES = """\
# Made by resight export. Build and push the image, name it below, then: kubectl apply -f kubernetes.yaml
apiVersion: v1
kind: Service
metadata: {name: resight}
spec:
  selector: {app: resight}
  ports: [{port: 8000}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: resight}
spec:
  replicas: 1
  selector: {matchLabels: {app: resight}}
  template:
    metadata: {labels: {app: resight}}
    spec:
      terminationGracePeriodSeconds: 30
      securityContext: {runAsNonRoot: true, runAsUser: 10001, seccompProfile: {type: RuntimeDefault}}
      containers:
        - name: resight
          image: resight:latest
          # every name that it is asked by: those of the Service, and that of an Ingress in front
          args: ["--allow-host", "resight", "--allow-host", "resight.default.svc.cluster.local"]
          ports: [{containerPort: 8000}]
          # the kubelet asks by the pod's address, which needs no --allow-host
          livenessProbe: {httpGet: {path: /v2/health/live, port: 8000}, periodSeconds: 10}
          readinessProbe: {httpGet: {path: /v2/health/ready, port: 8000}, periodSeconds: 5}
          # until every node knows that this pod ends
          lifecycle: {preStop: {exec: {command: ["sleep", "5"]}}}
          securityContext:
            {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
          volumeMounts: [{name: tmp, mountPath: /tmp}]
      volumes: [{name: tmp, emptyDir: {}}]
"""
_README = """\
# A Run behind HTTP, in a container

Made by `resight export --to docker`, checked for form, not built. What it answers: docs/serve.md of Resight.

    docker build -t resight .
    docker run --rm -p 127.0.0.1:8000:8000 --read-only --tmpfs /tmp resight

Then open <http://127.0.0.1:8000/>.

## By which name it is asked

`localhost` and every IP address are answered, also a pod's, by which Kubernetes probes. Any other name in `Host` gets
421, until it is given with `--allow-host`, once for each name, without a port. What follows the image's name is added
to `resight serve`:

| | where the names stand |
|---|---|
| Docker | `docker run … resight --allow-host flowers.example.org` |
| Compose, asked as `http://resight:8000/` by other services | `command:` in `compose.yaml` |
| Kubernetes, asked by the Service's name or through an Ingress | `args:` in `kubernetes.yaml` |

A service or a namespace of another name than `resight` and `default` needs its own name there. There are no accounts
and no TLS: put it behind a proxy that has them.
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
    about = folder / METADATA / "METADATA"  # what `importlib.metadata` reads: the image installs no wheel of Resight
    about.parent.mkdir()
    write_atomic(about, (distribution("resight").read_text("METADATA") or "").encode())
    texts = {DOCKERFILE: _DOCKERFILE, COMPOSE: _COMPOSE, KUBERNETES: _KUBERNETES, README: _README}
    for name, text in texts.items():
        write_atomic(folder / name, text.encode())
    for path in folder.rglob("*"):  # the image's user is another one, whatever the umask was here
        path.chmod(0o755 if path.is_dir() else 0o644)
    notes = [
        "made and checked for form; the image was not built",
        "asked by a name it answers only those of --allow-host: README.md, compose.yaml and kubernetes.yaml say where; "
        "whoever may reach the port may ask it: put it behind a proxy that knows its users",
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
