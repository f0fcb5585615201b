"""configs/cluster: what Ray's own schema and KubeRay's own definition say of the files, and what both must have."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config

from sweep import cli

FOLDER = Path(__file__).parent.parent / "configs" / "cluster"

#: KubeRay's definition of a RayJob, 1.4 MB, which is therefore no part of this repository.
DEFINITION = (
    "https://raw.githubusercontent.com/ray-project/kuberay/v1.7.0/helm-chart/kuberay-operator/crds/ray.io_rayjobs.yaml"
)
#: Names a file in its place, where there is no network.
ELSEWHERE = "ROBUSTSWEEP_RAYJOB_CRD"


@pytest.fixture(scope="module")
def aws() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((FOLDER / "aws.yaml").read_text())
    return config


@pytest.fixture(scope="module")
def job() -> dict[str, Any]:
    _, job = yaml.safe_load_all((FOLDER / "kuberay.yaml").read_text())
    assert job["kind"] == "RayJob"
    return dict(job)


@pytest.fixture(scope="module")
def definition() -> dict[str, Any]:
    """The OpenAPI schema of a RayJob."""
    try:
        if file := os.environ.get(ELSEWHERE):
            text = Path(file).read_bytes()
        else:
            text = urllib.request.urlopen(DEFINITION, timeout=5).read()
    except OSError as error:
        pytest.skip(f"KubeRay's definition cannot be had ({error}); {ELSEWHERE}=FILE names one")
    versions = yaml.load(text, yaml.CSafeLoader)["spec"]["versions"]
    schema = next(one["schema"]["openAPIV3Schema"] for one in versions if one["name"] == "v1")
    return closed(schema)


def closed(schema: Any) -> Any:
    """The same, in which a key that nobody knows is an error: Kubernetes would drop it without a word."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    known = {key: closed(value) for key, value in schema.items()}
    if (
        "properties" in known
        and not known.get("x-kubernetes-preserve-unknown-fields")
        and known.get("type") == "object"
    ):
        known.setdefault("additionalProperties", False)
    if known.get("x-kubernetes-int-or-string"):
        known.pop("type", None)
    return known


def test_rays_own_schema_takes_the_file_for_aws(aws: dict[str, Any]) -> None:
    whole = prepare_config(aws)
    validate_config(whole)
    assert whole["available_node_types"]["spot"]["max_workers"] == 8


@pytest.mark.parametrize("broken", [{"max_workers": "8"}, {"available_nodes": {}}, {"provider": {"region": "x"}}])
def test_rays_own_schema_refuses_what_is_wrong_with_it(aws: dict[str, Any], broken: dict[str, Any]) -> None:
    with pytest.raises((jsonschema.ValidationError, KeyError)):
        validate_config(prepare_config({**aws, **broken}))


@pytest.mark.slow
def test_kuberays_own_definition_takes_the_job(job: dict[str, Any], definition: dict[str, Any]) -> None:
    jsonschema.validate(job, definition)
    wrong = {**job, "spec": {**job["spec"], "backOffLimit": 1}}
    with pytest.raises(jsonschema.ValidationError, match="backOffLimit"):
        jsonschema.validate(wrong, definition)


def commands(aws: dict[str, Any]) -> Iterator[str]:
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        yield from (command for command in aws[key] if " start " in command)


def test_both_ask_for_a_token_and_run_on_spot_machines_that_come_and_go(
    aws: dict[str, Any], job: dict[str, Any]
) -> None:
    assert [command.startswith("RAY_AUTH_MODE=token ") for command in commands(aws)] == [True, True]
    assert aws["file_mounts"]["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    types = aws["available_node_types"]
    assert types["spot"]["node_config"]["InstanceMarketOptions"]["MarketType"] == "spot"
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    assert cluster["enableInTreeAutoscaling"]
    group, *_ = cluster["workerGroupSpecs"]
    assert (types["spot"]["min_workers"], group["minReplicas"]) == (0, 0)
    assert "gke-spot" in str(group["template"]["spec"]["nodeSelector"])


def test_head_and_workers_have_one_image_one_ray_and_the_same_shared_folder(
    aws: dict[str, Any], job: dict[str, Any]
) -> None:
    cluster = job["spec"]["rayClusterSpec"]
    specs = [cluster["headGroupSpec"]["template"]["spec"], cluster["workerGroupSpecs"][0]["template"]["spec"]]
    for of in ("image", "volumeMounts"):
        assert len({str(spec["containers"][0][of]) for spec in specs}) == 1
    assert specs[0]["volumes"] == specs[1]["volumes"]
    assert len({str(kind["node_config"]["ImageId"]) for kind in aws["available_node_types"].values()}) == 1
    version = tuple(map(int, ray.__version__.split(".")[:2]))
    assert cluster["rayVersion"] in str(aws["setup_commands"])
    assert tuple(map(int, cluster["rayVersion"].split(".")[:2])) <= version


def test_what_the_job_types_is_a_command_that_there_is(job: dict[str, Any]) -> None:
    program, name, config, *options = job["spec"]["entrypoint"].split()
    assert program == "sweep"
    context = cli.main.commands[name].make_context(name, [config, *options])
    assert str(context.params["out"]).startswith("/shared/")
    assert context.params["address"] == "auto"
