"""The recipes for KubeRay, `ray up` and containers, held against what will read them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from search.cli import cli
from search.commands import Session

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "cluster"

# Of KubeRay's ray-operator/apis/ray/v1 (rayjob_types.go, raycluster_types.go; authOptions came with
# 1.5.1): what is not there is pruned by the API server without a word.
SPEC = {
    *("activeDeadlineSeconds", "backoffLimit", "rayClusterSpec", "submitterPodTemplate"),
    *("metadata", "clusterSelector", "submitterConfig", "managedBy", "deletionStrategy"),
    *("entrypoint", "runtimeEnvYAML", "jobId", "submissionMode", "entrypointResources"),
    *("entrypointNumCpus", "entrypointNumGpus", "ttlSecondsAfterFinished"),
    *("shutdownAfterJobFinishes", "suspend"),
}
CLUSTER = {
    *("authOptions", "suspend", "managedBy", "autoscalerOptions", "headServiceAnnotations"),
    *("enableInTreeAutoscaling", "gcsFaultToleranceOptions", "headGroupSpec", "rayVersion"),
    "workerGroupSpecs",
}
HEAD = {"template", "headService", "enableIngress", "rayStartParams", "serviceType"}
GROUP = {
    *("groupName", "replicas", "minReplicas", "maxReplicas", "numOfHosts"),
    *("rayStartParams", "template", "scaleStrategy"),
}


def versions() -> dict[str, str]:
    """The versions of constraints.txt by name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()[1:]
    return dict(line.split("==") for line in lines)


def parsed(line: str) -> click.Context:
    """A command line of ours as `eca-search` would take it; a usage error for one it would not."""
    program, name, *arguments = shlex.split(line)
    assert program == "eca-search"
    above = click.Context(cli, obj=Session())
    command = cli.get_command(above, name)
    assert command is not None
    return command.make_context(name, arguments, parent=above)


@pytest.fixture
def documents() -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((RECIPES / "kuberay-rayjob.yaml").read_text()))


@pytest.fixture
def job(documents: list[dict[str, Any]]) -> dict[str, Any]:
    (found,) = (each for each in documents if each["kind"] == "RayJob")
    spec: dict[str, Any] = found["spec"]
    return spec


def pods(job: dict[str, Any]) -> list[dict[str, Any]]:
    """The pods of the head and of every group of workers."""
    cluster = job["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [group["template"]["spec"] for group in groups]


def test_kuberay_knows_every_key(job: dict[str, Any]) -> None:
    """Misspelt ones would be dropped by the API server."""
    cluster = job["rayClusterSpec"]
    assert set(job) <= SPEC
    assert set(cluster) <= CLUSTER
    assert set(cluster["headGroupSpec"]) <= HEAD
    assert all(set(group) <= GROUP for group in cluster["workerGroupSpecs"])
    assert cluster["rayVersion"] == versions()["ray"]
    assert cluster["authOptions"] == {"mode": "token"}


def test_the_jobs_entrypoint_is_a_command_of_ours(job: dict[str, Any]) -> None:
    """It goes on where a cluster before it has ended, and leaves the cluster to RAY_ADDRESS."""
    options = parsed(job["entrypoint"]).params
    assert options["again"]
    assert options["address"] is None
    assert job["backoffLimit"] > 0


def test_every_pod_has_the_studies_and_the_head_alone_mlflows_login(
    job: dict[str, Any], documents: list[dict[str, Any]]
) -> None:
    """The claim is mounted where studies go, by all; no worker is given a secret."""
    out = str(parsed(job["entrypoint"]).params["out"])
    claims = {each["metadata"]["name"]: each for each in documents if "Claim" in each["kind"]}
    for pod in pods(job):
        (container,) = pod["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        claim = claims[volumes[mounts[out]]["persistentVolumeClaim"]["claimName"]]
        assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
        assert set(mounts.values()) <= set(volumes)
    head, *workers = (pod["containers"][0] for pod in pods(job))
    assert "envFrom" in head
    for worker in workers:
        assert "envFrom" not in worker
        assert not [e for e in worker["env"] if "valueFrom" in e or "MLFLOW" in e["name"]]


def test_ray_takes_the_file_of_ray_up() -> None:
    """Ray's own check of it, with its defaults filled in; its commands are parsed by Ray too."""
    from ray.autoscaler._private.util import prepare_config, validate_config
    from ray.scripts.scripts import start

    text = (RECIPES / "ray-up.yaml").read_text()
    config = yaml.safe_load(text)
    validate_config(prepare_config(config))
    commands = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    starts = [command for command in commands if " ray start " in command]
    assert len(starts) == 2
    for command in starts:
        assert "RAY_AUTH_MODE=token" in command
        assert "0.0.0.0" not in command
        start.make_context("start", shlex.split(command.partition(" ray start ")[2]))
    (typed,) = re.findall(r"(eca-search run [^']*)'", text)
    assert parsed(typed).params["address"] == "auto"


def test_the_image_is_made_of_what_is_here() -> None:
    """Every file it copies exists, its extras and Python are the package's, root runs nothing."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (RECIPES / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    copied = [name for step, rest in steps if step == "COPY" for name in rest.split()[:-1]]
    assert {"spaces", "trainers", "search", "constraints.txt", project["readme"]} <= set(copied)
    assert all((ROOT / name).exists() for name in copied)
    (base,) = (rest for step, rest in steps if step == "FROM")
    assert f"python:{project['requires-python'].removeprefix('>=')}-" in base
    (install,) = (rest for step, rest in steps if step == "RUN" and "pip install" in rest)
    extras = set(re.findall(r"\.\[(.*)\]", install)[0].split(","))
    assert extras <= set(project["optional-dependencies"])
    assert "-c constraints.txt" in install
    assert [rest for step, rest in steps if step == "USER"] == ["search"]


def test_nothing_of_the_recipes_is_installed() -> None:
    """`pip install` takes the three packages alone."""
    import tomllib

    tool = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert tool["packages"]["find"]["include"] == ["spaces*", "trainers*", "search*"]
