"""deploy/kubernetes: valid by the published schemas, and in agreement with itself and with Dues."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import kubernetes_validate
import msgspec
import pytest
import yaml
from flask import Flask

from api.routing import Route
from config import Settings
from tests.deploy.gateways import DEPLOY, find
from tests.deploy.test_configurations import check

FOLDER = DEPLOY / "kubernetes"
# What needs more than Kubernetes has no schema there.
FOREIGN = {"Kustomization", "Component", "ScaledObject", "HTTPRoute"}
OLDEST = "1.30"


def documents(path: Path) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


FILES = sorted(FOLDER.rglob("*.yaml"))
ALL = [found for path in FILES if path.name != "secret.example.yaml" for found in documents(path)]
POD_KINDS = ("Deployment", "Job")


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [found for found in ALL if found["kind"] in kinds]


def name_of(document: dict[str, Any]) -> str:
    return str(document["metadata"]["name"])


def pod_of(document: dict[str, Any]) -> dict[str, Any]:
    return dict(document["spec"]["template"]["spec"])


def labels_of(document: dict[str, Any]) -> dict[str, str]:
    """A pod's labels, as the kustomization completes them."""
    [kustomization] = documents(FOLDER / "kustomization.yaml")
    [common] = kustomization["labels"]
    assert common["includeTemplates"]
    return {**document["spec"]["template"]["metadata"]["labels"], **common["pairs"]}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_holds_to_the_schemas(path: Path):
    for document in documents(path):
        if document["kind"] not in FOREIGN:
            kubernetes_validate.validate(document, OLDEST, strict=True)


def test_a_misspelt_field_is_found():
    [web] = [found for found in of_kind("Deployment") if name_of(found) == "dues-web"]
    [container] = pod_of(web)["containers"]
    container["readynessProbe"] = container.pop("readinessProbe")
    try:
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(web, OLDEST, strict=True)
    finally:
        container["readinessProbe"] = container.pop("readynessProbe")


def test_the_kustomization_names_every_file_and_kustomize_builds_it():
    [kustomization] = documents(FOLDER / "kustomization.yaml")
    beside = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml", "secret.example.yaml"}
    assert set(kustomization["resources"]) == beside
    built = check(find("kubectl"), "kustomize", FOLDER)
    kinds = Counter(found["kind"] for found in yaml.safe_load_all(built))
    ours = Counter(found["kind"] for found in ALL if found["kind"] not in ("Kustomization", "Component", "HTTPRoute"))
    assert kinds == ours + Counter({"ConfigMap": 1})


def test_linkerd_is_added_to_what_serves_and_works(tmp_path: Path):
    shutil.copytree(FOLDER, tmp_path / "base")
    shutil.move(tmp_path / "base" / "linkerd", tmp_path / "linkerd")
    (tmp_path / "kustomization.yaml").write_text("resources: [base]\ncomponents: [linkerd]\n")
    built = [*yaml.safe_load_all(check(find("kubectl"), "kustomize", tmp_path))]
    meshed = [found for found in built if found["kind"] == "Deployment"]
    assert all(
        found["spec"]["template"]["metadata"]["annotations"]["linkerd.io/inject"] == "enabled" for found in meshed
    )
    routes = {name_of(found): found for found in built if found["kind"] == "HTTPRoute"}
    # What done twice is done once is sent again, and nothing else.
    repeated = {
        name for name, found in routes.items() if "retry.linkerd.io/http" in found["metadata"].get("annotations", {})
    }
    assert repeated == {"dues-reads", "dues-keyed-writes"}
    assert [match["method"] for match in routes["dues-reads"]["spec"]["rules"][0]["matches"]] == ["GET", "HEAD"]
    [keyed] = routes["dues-keyed-writes"]["spec"]["rules"][0]["matches"]
    assert (keyed["method"], keyed["headers"][0]["name"]) == ("POST", "Idempotency-Key")


def test_pods_run_as_nobody_on_a_root_that_is_read_only():
    for document in of_kind(*POD_KINDS):
        pod = pod_of(document)
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        [container] = pod["containers"]
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        assert {source for given in container["envFrom"] for source in given} == {"configMapRef", "secretRef"}


def test_every_setting_is_one_of_dues():
    known = {field.upper() for field in Settings.__struct_fields__}
    [kustomization] = documents(FOLDER / "kustomization.yaml")
    [generator] = kustomization["configMapGenerator"]
    [secret] = documents(FOLDER / "secret.example.yaml")
    given = {line.partition("=")[0] for line in generator["literals"]} | set(secret["stringData"])
    for document in of_kind("Deployment"):
        given |= {variable["name"] for variable in pod_of(document)["containers"][0].get("env", ())}
    assert given <= known
    assert {"DATABASE_URL", "REDIS_URL", "SECRET_KEY", "FORWARDED_ALLOW_IPS"} <= given
    # Else whoever pays by the sandbox, which charges nobody, is a member.
    assert "ENVIRONMENT=production" in generator["literals"]


def test_what_stands_together_stays_together():
    """Budgets, autoscalers and policies name pods that there are."""
    deployments = {name_of(found): found for found in of_kind("Deployment")}
    pods = [labels_of(found) for found in of_kind(*POD_KINDS)]
    for budget in of_kind("PodDisruptionBudget"):
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels_of(deployments[name_of(budget)]).items()
    assert {name_of(found) for found in of_kind("PodDisruptionBudget")} == deployments.keys()
    scaled = [found["spec"]["scaleTargetRef"]["name"] for found in of_kind("HorizontalPodAutoscaler", "ScaledObject")]
    assert sorted(scaled) == sorted(deployments.keys() - {"dues-relay"})
    # Whose number somebody else decides, the manifest must not set it back at each release.
    assert [name for name, found in deployments.items() if "replicas" in found["spec"]] == ["dues-relay"]
    for policy in of_kind("NetworkPolicy"):
        wanted = policy["spec"]["podSelector"].get("matchLabels", {})
        assert any(wanted.items() <= labels.items() for labels in pods), name_of(policy)
    for document in deployments.values():
        wanted = document["spec"]["selector"]["matchLabels"]
        assert wanted.items() <= document["spec"]["template"]["metadata"]["labels"].items()


def test_every_queue_has_workers_that_its_own_number_scales():
    [setting] = [field for field in msgspec.structs.fields(Settings) if field.name == "worker_queues"]
    queues = [part.partition(":")[0] for part in str(setting.default).split(",")]
    deployments = {name_of(found): found for found in of_kind("Deployment")}
    scalers = {name_of(found): found["spec"] for found in of_kind("ScaledObject")}
    assert {f"dues-worker-{queue}" for queue in queues} == scalers.keys()
    for queue in queues:
        name = f"dues-worker-{queue}"
        [container] = pod_of(deployments[name])["containers"]
        assert {"name": "WORKER_QUEUES", "value": f"{queue}:1"} in container["env"]
        [trigger] = scalers[name]["triggers"]
        assert f'dues_queue_recommended_workers{{queue="{queue}"}}' in trigger["metadata"]["query"]
        assert scalers[name]["minReplicaCount"] >= 1


def test_probes_ask_what_they_should():
    [web] = [found for found in of_kind("Deployment") if name_of(found) == "dues-web"]
    [container] = pod_of(web)["containers"]
    asked = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
    assert asked == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz?ignore=redis"}
    assert container["readinessProbe"]["timeoutSeconds"] >= 4
    # Time until nobody is sent here any more, and gunicorn's own for what is under way.
    assert pod_of(web)["terminationGracePeriodSeconds"] >= container["lifecycle"]["preStop"]["sleep"]["seconds"] + 25
    assert web["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_the_ingress_passes_on_every_path_but_the_operators(app: Flask):
    [ingress] = of_kind("Ingress")
    paths = [(given["path"], given["pathType"]) for given in ingress["spec"]["rules"][0]["http"]["paths"]]

    def is_passed(path: str) -> bool:
        return any(path == given or (kind == "Prefix" and path.startswith(f"{given}/")) for given, kind in paths)

    routes: dict[str, Route] = app.extensions["routes"]
    assert routes
    rules = {rule.rule.rstrip("/") or "/" for rule in app.url_map.iter_rules()}
    assert {rule for rule in rules if not is_passed(rule)} == {"/healthz", "/readyz", "/metrics"}
