"""What Kubeflow's launcher does in a step's pod, for a cluster without Kubeflow: artifacts down, the
step, artifacts up. Standard library alone: the step's image has to do.

The rules are those of kubeflow/pipelines 2.17.0: artifacts travel file by file (an empty folder is
gone), lie below /s3 in a volume that dies with the pod, and an artifact whose URI is no bucket's
ends every step that reads it before a line of it has run. The bucket is an S3-compatible server
that asks for no signature.
"""

import json
import re
import subprocess
import sys
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

BUCKET_URI = re.compile(r"^[a-z][a-z0-9]+:///?[^/]+")  # objectstore/config.go
REMOTE = "s3://"
OUTPUTS = "::kfp-outputs "  # the line of the log that the outputs follow


def main(endpoint: str, given: str, command: list[str]) -> int:
    """Run `command` on the artifacts and parameters of the file `given`; its exit status."""
    executor_input: dict[str, Any] = json.loads(Path(given).read_text())
    for name, artifacts in executor_input["inputs"].get("artifacts", {}).items():
        for artifact in artifacts["artifacts"]:
            if not BUCKET_URI.match(artifact["uri"]):
                print(f"failed to parse bucketConfig of {name}: unrecognized uri {artifact['uri']}")
                return 1
            download(endpoint, artifact["uri"])
    # The folders of what comes out, and no more: the step makes what lies in them.
    outputs = executor_input["outputs"]
    for artifacts in outputs.get("artifacts", {}).values():
        local_path(artifacts["artifacts"][0]["uri"]).parent.mkdir(parents=True, exist_ok=True)
    for parameter in outputs.get("parameters", {}).values():
        Path(parameter["outputFile"]).parent.mkdir(parents=True, exist_ok=True)

    status = subprocess.run(command).returncode
    if status:
        return status
    written = Path(outputs["outputFile"])
    result: dict[str, Any] = json.loads(written.read_text()) if written.exists() else {}
    # A step may say other URIs; what is in no bucket is not uploaded, with a warning alone.
    for name, artifacts in outputs.get("artifacts", {}).items():
        said = result.get("artifacts", {}).get(name, artifacts)["artifacts"][0]
        artifacts["artifacts"][0] |= {key: said[key] for key in ("uri", "metadata") if key in said}
        if said["uri"].startswith(REMOTE):
            upload(endpoint, said["uri"])
        else:
            print(f"warning: {name} is not uploaded from {said['uri']}")
    outcome = {
        "parameters": result.get("parameterValues", {}),
        "artifacts": outputs.get("artifacts", {}),
    }
    print(f"{OUTPUTS}{json.dumps(outcome)}", flush=True)
    return 0


def local_path(uri: str) -> Path:
    """Where an artifact lies in the pod."""
    return Path("/s3") / uri.removeprefix(REMOTE)


def download(endpoint: str, uri: str) -> None:
    """Every object below the artifact's URI; the artifact may be one object itself."""
    bucket, _, prefix = uri.removeprefix(REMOTE).partition("/")
    token: str | None = ""
    while token is not None:
        query = {"list-type": "2", "prefix": prefix} | (
            {"continuation-token": token} if token else {}
        )
        with urllib.request.urlopen(f"{endpoint}/{bucket}?{urllib.parse.urlencode(query)}") as page:
            listing = ElementTree.fromstring(page.read())
        space = listing.tag.partition("}")[0] + "}" if listing.tag.startswith("{") else ""
        for key in (str(node.text) for node in listing.iter(f"{space}Key")):
            if key == prefix or key.startswith(f"{prefix}/"):
                path = Path("/s3") / bucket / key
                path.parent.mkdir(parents=True, exist_ok=True)
                urllib.request.urlretrieve(f"{endpoint}/{bucket}/{urllib.parse.quote(key)}", path)
        token = listing.findtext(f"{space}NextContinuationToken")


def upload(endpoint: str, uri: str) -> None:
    """The artifact's file, or every file below its folder."""
    path = local_path(uri)
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    for file in files:
        key = urllib.parse.quote(str(file.relative_to("/s3")))
        with file.open("rb") as body:
            size = {"Content-Length": str(file.stat().st_size)}
            request = urllib.request.Request(
                f"{endpoint}/{key}", data=body, method="PUT", headers=size
            )
            urllib.request.urlopen(request).close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
