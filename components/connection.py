"""The way to a Kubeflow Pipelines server, from a laptop and from a step: who asks, which
certificate is trusted, and what a refusal means for people.

A step cannot import `kfp.Client`: Kubeflow hides there what makes pipelines. What is used is the
client below it.
"""

import json
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mtmh.errors import UserError

if TYPE_CHECKING:
    import kfp_server_api as api

TOKEN = "MTMH_KFP_TOKEN"  # the variable that holds a token itself
# What Kubeflow's PodDefault `access-ml-pipeline` gives a pod: a token of its ServiceAccount with
# the audience pipelines.kubeflow.org. Variable and file are those of kfp's own client.
PROJECTED = "KF_PIPELINES_SA_TOKEN_PATH"
PROJECTED_FILE = "/var/run/secrets/kubeflow/pipelines/token"
SECONDS = (10, 60)  # to connect, and to answer the first question
NAMESPACE = "--set cluster.kubeflow_namespace=NAME"
CREDENTIALS = (
    f"--token-file FILE, or the variable {TOKEN}; in a pod a projected ServiceAccount token with"
    f" audience pipelines.kubeflow.org in {PROJECTED_FILE}"
)
LONGEST = 500  # characters of a server's own words in a message


@dataclass(frozen=True)
class Connection:
    """A server, and who asks it. A token never stands on a command line, where `ps` shows it."""

    host: str  # URL, below which /apis/v2beta1 lies
    token_file: Path | None = None
    ca_file: Path | None = None  # certificates in PEM; by default the public ones

    def token(self) -> str:
        """The bearer token: of `token_file`, else of MTMH_KFP_TOKEN, else the one that is projected
        into this pod; empty where there is none.

        Raises UserError when what is named holds no token.
        """
        if self.token_file:
            return _read_token(self.token_file)
        if written := os.environ.get(TOKEN):
            return _checked(written, f"the variable {TOKEN}")
        projected = Path(os.environ.get(PROJECTED) or PROJECTED_FILE)
        return _read_token(projected) if projected.is_file() else ""

    def configuration(self) -> "api.Configuration":
        """What the client below kfp's needs. Raises UserError when host, token or certificates are
        none."""
        import kfp_server_api as api

        if not self.host.startswith(("http://", "https://")):
            raise UserError(f"{self.host} is no URL of a server: write http:// or https:// first.")
        configuration = api.Configuration(host=self.host.rstrip("/"))
        if self.ca_file:
            try:
                ssl.create_default_context(cafile=self.ca_file)
            except OSError as error:  # what ssl raises is one, too
                raise UserError(
                    f"--ca-file {self.ca_file}: no certificates in PEM can be read there: {error}."
                ) from None
            configuration.ssl_ca_cert = str(self.ca_file)
        if token := self.token():
            configuration.api_key["authorization"] = token
            configuration.api_key_prefix["authorization"] = "Bearer"
        return configuration


def _read_token(file: Path) -> str:
    try:
        content = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the token file {file} cannot be read: {error}.") from None
    return _checked(content, f"the file {file}")


def _checked(content: str, where: str) -> str:
    # Anything else would end the request's header, or smuggle in another.
    words = content.split()
    if len(words) != 1 or not content.isascii():
        raise UserError(f"{where} holds no token: one word of ASCII is expected.")
    return words[0]


@contextmanager
def connected(connection: Connection, namespace: str = "") -> Iterator["api.ApiClient"]:
    """A client of the server, whose calls are about `namespace` (empty: a server of one user).

    Raises UserError when no server answers, when it is not one of Kubeflow Pipelines, or when it
    refuses a call inside the context; it says what to do.
    """
    import kfp_server_api as api
    from urllib3.exceptions import HTTPError, SSLError

    with api.ApiClient(connection.configuration()) as client:
        try:
            _check_server(client, connection.host, namespace)
            yield client
        except api.ApiException as error:
            raise UserError(_explained(error, connection.host, namespace)) from None
        except (HTTPError, UnicodeDecodeError) as error:
            reason = getattr(error, "reason", error)
            message = f"no Kubeflow Pipelines server answers at {connection.host}: {reason}."
            if isinstance(reason, SSLError):
                message += (
                    " Where its certificate is signed by your own authority, name that one's file:"
                    " --ca-file FILE."
                )
            raise UserError(message) from None


def _check_server(client: "api.ApiClient", host: str, namespace: str) -> None:
    """That Kubeflow Pipelines answers, and that somebody's namespace is named where it has many
    users."""
    import kfp_server_api as api

    answer, _, headers = api.HealthzServiceApi(client).healthz_service_get_healthz_with_http_info(
        _request_timeout=SECONDS
    )
    # A gateway answers with a page of its own, with status 200.
    if "json" not in headers.get("Content-Type", ""):
        raise UserError(
            f"what answers at {host} is a web page and not the API of Kubeflow Pipelines. Behind"
            f" Kubeflow's gateway the URL ends with /pipeline; where the page asks for a login,"
            f" give a token: {CREDENTIALS}."
        )
    if answer.multi_user and not namespace:
        raise UserError(
            f"the Kubeflow Pipelines at {host} has many users: say in the namespace of which"
            f" profile the run belongs, {NAMESPACE}."
        )


def _explained(error: "api.ApiException", host: str, namespace: str) -> str:
    """What a refusal says, and what to do about it."""
    said = f"the Kubeflow Pipelines server at {host} answers {error.status} {error.reason}"
    said += f": {words}" if (words := _words(error.body)) else ""
    profile = f"the namespace {namespace}" if namespace else "its own namespace"
    if error.status == 401:
        advice = f"It does not know who asks, or the token has expired: give one by {CREDENTIALS}."
    elif error.status == 403:
        advice = (
            f"Who asks may not do this in {profile}. Name your own profile's, {NAMESPACE}, or have"
            " somebody bind the ClusterRole kubeflow-pipelines-edit to you (a step: to its"
            f" ServiceAccount) in {profile}; without a token nobody may do anything: {CREDENTIALS}."
        )
    elif error.status == 404:
        advice = (
            "Either the URL is not that of the API (behind Kubeflow's gateway it ends with"
            " /pipeline), or what is named has been deleted on the server: then schedule again."
        )
    elif error.status >= 500:
        advice = (
            "The server, or the gateway before it, fails: try again; what is wrong is in the log of"
            " its Deployment ml-pipeline."
        )
    else:
        advice = (
            f"It asked about {profile} (another: {NAMESPACE}); if its words speak of authorization,"
            f" give a token: {CREDENTIALS}."
        )
    return f"{said}. {advice}"


def _words(body: str | None) -> str:
    """The message in the body of an error, short and on one line."""
    try:
        content = json.loads(body or "")
    except ValueError:
        content = {}
    if not isinstance(content, dict):
        return ""
    # The upload has keys of its own.
    texts = (content.get(key) for key in ("message", "error_details", "error_message", "error"))
    message = next((text for text in texts if isinstance(text, str) and text), "")
    return " ".join(message.split())[:LONGEST].rstrip(".")
