"""Prints a Dask cluster for the operator of dask-kubernetes, and a job that runs the archive on it.

    pip install dask-kubernetes
    python examples/kubernetes.py registry.example.org/mrlift:0.1.0 100 | kubectl apply -f -

The claim "archive" is a volume that all pods may write to (ReadWriteMany), with the folder source.
"""

import sys

import yaml
from dask_kubernetes.operator import make_cluster_spec

image, workers = sys.argv[1], int(sys.argv[2])
share = {"cpu": "1", "memory": "3Gi"}  # of a worker: one core
cluster = make_cluster_spec(
    name="mrlift",
    image=image,
    n_workers=workers,
    worker_command="dask worker --nthreads 1",
    resources={"requests": share, "limits": share},
    env={"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "30"},
)
# Dask has no dask-scheduler any more, which the template still names.
scheduler = cluster["spec"]["scheduler"]["spec"]["containers"][0]
scheduler["args"] = ["dask", "scheduler", "--host", "0.0.0.0"]
client = {
    "name": "client",
    "image": image,
    "command": ["mrlift", "archive", "run", "/archive/source", "/archive/x2",
                "--scheduler", "tcp://mrlift-scheduler:8786"],
}  # fmt: skip
job = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "mrlift-client"},
    # Exit code 9 says that series failed: trying again would change nothing.
    "spec": {
        "backoffLimit": 10,
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": {
            "containerName": "client", "operator": "In", "values": [2, 3, 4, 5, 9]}}]},
        "template": {"spec": {"restartPolicy": "Never", "containers": [client]}},
    },
}  # fmt: skip
pods = [cluster["spec"]["worker"]["spec"], job["spec"]["template"]["spec"]]
for pod in pods:
    pod["securityContext"] = {"runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 10001}
    pod["volumes"] = [{"name": "archive", "persistentVolumeClaim": {"claimName": "archive"}}]
    pod["containers"][0]["volumeMounts"] = [{"name": "archive", "mountPath": "/archive"}]
yaml.Dumper.ignore_aliases = lambda *_: True
print(yaml.dump_all([cluster, job], Dumper=yaml.Dumper, sort_keys=False))
