"""The context of `--to docker`: what is in it, and by which names the server in it answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.metadata import distributions, version
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import Headers
from tests.inference import tiny
from typer.testing import CliRunner

from resight.cli import app
from resight.commands.export import export
from resight.runs import Run, open_artifact
from resight.samples import load
from resight.serving.middleware import Hosts
from resight.serving.refusals import Refused


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return tiny.make_run(tmp_path / "my run", data=load(tiny.write_folder(tmp_path / "colours", each=12)))


def test_docker_serves_without_pytorch(run: Run) -> None:
    before = os.umask(0o077)
    try:
        export(run, "docker")
    finally:
        os.umask(before)
    folder = open_artifact(run, "docker").path
    modes = {path.stat().st_mode & 0o777 for path in (folder / "run").rglob("*")}
    assert modes == {0o644}  # the image's user is another one
    text = (folder / "Dockerfile").read_text()
    for words in ("USER 10001", "HEALTHCHECK", "/v2/health/ready", "resight.cli", "serve", "STOPSIGNAL SIGTERM"):
        assert words in text
    required = (folder / "requirements.txt").read_text()
    assert "starlette==" in required
    assert "onnxruntime==" in required
    assert "torch" not in required
    Run.open(folder / "run")
    code = (
        "from resight import Predictor, Run; import sys; Predictor(Run.open('run')); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, env={"PYTHONPATH": str(folder)})


def test_the_image_knows_its_version(run: Run) -> None:
    """No wheel is installed in it, and /v2 and the OpenAPI document name the version."""
    export(run, "docker")
    folder = open_artifact(run, "docker").path
    (found,) = distributions(name="resight", path=[str(folder)])
    assert found.version == version("resight")
    copied = re.findall(r"^COPY (\S+) /srv/(\S+)$", (folder / "Dockerfile").read_text(), re.M)
    assert {source for source, _ in copied} == {"requirements.txt", "resight", "resight.dist-info", "run"}
    assert all(source == target and (folder / source).exists() for source, target in copied)


def test_compose_and_kubernetes_are_answered_by_their_names(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in the generated files goes through the command line to the server's own check."""
    yaml = pytest.importorskip("yaml")
    export(run, "docker")
    folder = open_artifact(run, "docker").path
    (line,) = re.findall(r"^ENTRYPOINT (\[.*\])$", (folder / "Dockerfile").read_text(), re.M)
    compose = yaml.safe_load((folder / "compose.yaml").read_text())["services"]
    service, deployment = yaml.safe_load_all((folder / "kubernetes.yaml").read_text())
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    name = service["metadata"]["name"]
    asked = {
        "docker": ([], ["127.0.0.1:8000", "172.17.0.2:8000"]),
        "compose": (compose["resight"]["command"], ["resight:8000", "127.0.0.1:8000"]),
        "kubernetes": (container["args"], [name, f"{name}.default.svc.cluster.local:8000", "10.244.1.7:8000"]),
    }
    given: dict[str, Any] = {}
    monkeypatch.setattr("resight.commands.serve.serve", lambda runs, **options: given.update(options))
    for arguments, hosts in asked.values():
        result = CliRunner().invoke(app, [*json.loads(line)[3:], *arguments])
        assert result.exit_code == 0, result.output
        known = Hosts.of(given["host"], given["allow_hosts"])
        for host in hosts:
            known.check(Headers({"host": host}))
        with pytest.raises(Refused):
            known.check(Headers({"host": "evil.org"}))
        assert given["port"] == 8000
    probes = [container[kind]["httpGet"] for kind in ("livenessProbe", "readinessProbe")]
    assert [(probe["path"], probe["port"]) for probe in probes] == [
        ("/v2/health/live", 8000),
        ("/v2/health/ready", 8000),
    ]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"] == deployment["spec"]["selector"]["matchLabels"] == labels
    for text in ("--allow-host", "compose.yaml", "kubernetes.yaml", "421"):
        assert text in (folder / "README.md").read_text()
