# SPDX-License-Identifier: Apache-2.0
"""What ``config`` has for Compose and Kubernetes is right by the published schemas. ``test_image`` plays it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import kubernetes_validate
import pytest

from container.play import COMPOSE, MANIFESTS, load, pod_of

VERSIONS = ("1.29", kubernetes_validate.latest_version())
"""The first that starts sidecars without being asked to, and the last that is known."""


def test_the_compose_file_is_right_by_its_schema() -> None:
    """The Compose Specification's schema accepts it."""
    program = Path(sys.executable).parent / "check-jsonschema"
    command = [str(program), "--builtin-schema", "vendor.compose-spec", str(COMPOSE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_manifests_are_right_by_kubernetes_schemas(path: Path, version: str) -> None:
    """Kubernetes' own schemas accept them, and no field is one that they do not know."""
    kubernetes_validate.validate(load(path), version, strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_a_misspelt_field_is_noticed(path: Path) -> None:
    """The check of the schemas is strict: a field that Kubernetes would drop is an error."""
    manifest = load(path)
    spec = manifest["spec"] if manifest["kind"] == "Pod" else manifest["spec"]["template"]["spec"]
    spec["initContainers"][0]["restartPolcy"] = "Always"

    with pytest.raises(kubernetes_validate.ValidationError, match="restartPolcy"):
        kubernetes_validate.validate(manifest, VERSIONS[0], strict=True)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_pods_have_what_the_page_promises(path: Path) -> None:
    """The broker is a native sidecar that is probed; volumes are in memory and bounded; all have limits.

    Guests fit into the memory that any one container may have, since a page is charged to whoever touches it first.
    """
    pod = pod_of(path)
    broker = pod["initContainers"][0]
    everything = [*pod["initContainers"], *pod["containers"]]
    guests_mib = int(next(e["value"] for e in broker["env"] if e["name"] == "PRIVCMDD_MACHINE__MEMORY_MIB"))

    assert (broker["name"], broker["restartPolicy"]) == ("broker", "Always")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert broker[probe]["exec"]["command"] == ["privcmdctl", "ping"]
    for volume in pod["volumes"]:
        assert volume["emptyDir"]["medium"] == "Memory"
        assert volume["emptyDir"]["sizeLimit"]
    for container in everything:
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys() & container["resources"]["limits"].keys()
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
    units = {"Mi": 1, "Gi": 1024}
    for container in (broker, *pod["containers"]):
        limit = container["resources"]["limits"]["memory"]
        assert guests_mib < int(limit[:-2]) * units[limit[-2:]]
