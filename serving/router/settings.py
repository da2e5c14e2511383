"""Settings of the router: router.yaml, each value within bounds, checked as a whole. Read again by
configuration.py.
"""

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from mtmh.config import Section
from mtmh.errors import UserError
from mtmh.experiment.arms import Arms
from mtmh.layers import read_layers, read_sections, read_small
from mtmh.settings_check import check

DEFAULTS = Path(__file__).with_name("router.yaml")
# What the interface declares; a configuration may lower them.
MAX_TRIGGERS, MAX_K, MAX_BATCH = (
    50,
    500,
    32,
)
SECRET_BYTES = 4096

Port = Annotated[int, Field(ge=1, le=65535)]
Milliseconds = Annotated[int, Field(ge=10, le=60_000)]
BucketUrl = Annotated[str, Field(pattern="^((s3|gs|az)://[^/].*[^/])?$")]  # or empty


class Tls(Section):
    """The certificate (with its chain) and its key, PEM, of both ports; both null: no TLS."""

    certificate_file: Path | None = None
    key_file: Path | None = None

    @model_validator(mode="after")
    def _both_or_none(self) -> "Tls":
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("certificate_file and key_file go together: set both, or none")
        return self

    def read(self) -> tuple[bytes, bytes] | None:
        """Certificate and key, None without TLS. Raises UserError when they are not a pair."""
        if self.certificate_file is None or self.key_file is None:
            return None
        try:
            pair = self.certificate_file.read_bytes(), self.key_file.read_bytes()
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
                self.certificate_file, self.key_file
            )
        except OSError as error:  # an SSLError is one
            where = f"listen.tls {self.certificate_file}, {self.key_file}"
            raise UserError(
                f"{where}: {error.strerror or error}. Give a certificate in PEM and the key that "
                f"belongs to it."
            ) from None
        return pair


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Listen(Section):
    """Where the router answers; no gRPC where `grpc_port` is null.

    A gRPC connection ends after about `grpc_connection_seconds`: its client looks the name up
    again, and finds the routers that have come since.
    """

    host: Annotated[str, Field(min_length=1, max_length=255)] = "127.0.0.1"
    port: Port = 8080
    grpc_port: Port | None = 8081
    grpc_connection_seconds: Annotated[float, Field(ge=1.0, le=86_400.0, allow_inf_nan=False)] = (
        300.0
    )
    tls: Tls = Tls()

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)


class TritonSettings(Section):
    """The server behind. With `manages_models` the router loads and unloads its models, else it
    waits for them.

    The version that was replaced stays loaded for `drain_seconds` at the least: other routers may
    still ask it.
    """

    url: str = "127.0.0.1:8001"
    manages_models: bool = True
    secret_file: Path | None = (
        None  # opens Triton's management interface; `mtmh serve` makes its own where null
    )
    poll_seconds: Annotated[float, Field(ge=0.05, le=3600.0, allow_inf_nan=False)] = 1.0
    drain_seconds: Annotated[float, Field(ge=0.0, le=3600.0, allow_inf_nan=False)] = 3.0
    load_seconds: Annotated[float, Field(ge=1.0, le=3600.0, allow_inf_nan=False)] = 120.0

    def read_secret(self) -> str | None:
        """What `secret_file` holds, None where it is null. Raises UserError when it cannot be read,
        or is empty.
        """
        if self.secret_file is None:
            return None
        secret = read_small(
            self.secret_file, SECRET_BYTES, f"triton.secret_file {self.secret_file}"
        ).strip()
        if not secret or not secret.isalnum():
            raise UserError(
                f"triton.secret_file {self.secret_file}: write hex digits there, say with openssl "
                f"rand -hex 16."
            )
        return secret.decode("ascii")


class Features(Section):
    """Feast's online store: `directory` null is the store that the version carries."""

    directory: Path | None = None
    timeout_ms: Milliseconds = 300
    threads: Annotated[int, Field(ge=1, le=64)] = 4


class Limits(Section):
    """What one request may ask, and how many are worked on at once; more are turned away with
    429.
    """

    body_kb: Annotated[int, Field(ge=1, le=65_536)] = 1024
    body_seconds: Annotated[float, Field(ge=0.1, le=600.0, allow_inf_nan=False)] = 10.0
    triggers: Annotated[int, Field(ge=1, le=MAX_TRIGGERS)] = MAX_TRIGGERS
    k: Annotated[int, Field(ge=1, le=MAX_K)] = MAX_K
    batch: Annotated[int, Field(ge=1, le=MAX_BATCH)] = MAX_BATCH
    deadline_ms: Milliseconds = 1000
    in_flight: Annotated[int, Field(ge=1, le=10_000)] = 64
    in_flight_per_caller: Annotated[int, Field(ge=1, le=10_000)] | None = None  # null: no bound
    connections: Annotated[int, Field(ge=1, le=100_000)] = 2000
    engagement_days: Annotated[int, Field(ge=1, le=36_500)] = 365

    @model_validator(mode="after")
    def _a_batch_fits(self) -> "Limits":
        if self.batch > self.in_flight:
            raise ValueError(
                f"batch {self.batch} is more than in_flight {self.in_flight}: it would never be "
                f"let in"
            )
        return self


class Auth(Section):
    """Callers show `Authorization: Bearer <a token in this file>`; null asks nobody, on loopback
    alone.

    The file holds one token, or two, each on a line of its own: the old and the new one while
    callers change over. Lines like `web: TOKEN` give callers tokens of their own: figures, log and
    limits.in_flight_per_caller go by the name.
    """

    token_file: Path | None = None


class ExposureLog(Section):
    """Where exposures and engagements are kept (null: nowhere); an answer waits until its exposure
    is on disk.

    A segment is finished after `segment_seconds`, by the next record; with a `bucket` it then goes
    there, and from the disk.
    """

    directory: Path | None = None
    segment_seconds: Annotated[float, Field(ge=1.0, le=86_400.0, allow_inf_nan=False)] = 3600.0
    bucket: BucketUrl = ""


class ExperimentSettings(Section):
    """Arms and the salt of their assignment: a new salt is a new experiment. Without arms all get
    the champion.
    """

    salt: Annotated[str, Field(max_length=256)] = ""
    arms: Arms | None = None

    @property
    def versions(self) -> list[str]:
        """Those that arms name, each once."""
        return list(dict.fromkeys(arm.version for arm in self.arms or () if arm.version))


class Settings(Section):
    """A whole router. With a `bucket` the folder `store` is its own, and follows what is deployed
    there (serving/triton/bucket.py).
    """

    store: Path
    bucket: BucketUrl = ""
    listen: Listen = Listen()
    triton: TritonSettings = TritonSettings()
    features: Features = Features()
    limits: Limits = Limits()
    auth: Auth = Auth()
    log: ExposureLog = ExposureLog()
    experiment: ExperimentSettings = ExperimentSettings()

    @model_validator(mode="after")
    def _open_on_loopback_only(self) -> "Settings":
        if self.auth.token_file is None and not self.listen.is_loopback:
            raise ValueError(
                f"listen.host {self.listen.host} is not this machine alone: set auth.token_file "
                f"to a file with a token"
            )
        return self


@dataclass(frozen=True)
class Source:
    """Where the settings come from: a file over the defaults, then `section.key=value` settings
    over both.
    """

    path: Path | None = None
    settings: list[str] = field(default_factory=list)
    # Of Triton's management, from whoever started it.
    secret: str | None = field(default=None, repr=False)

    def written(self) -> dict[str, Any]:
        """What the file says, unchecked; nothing where there is no file. Raises UserError where it
        cannot be read.
        """
        return {} if self.path is None else read_sections(self.path)

    def read(self, written: Mapping[str, Any] | None = None) -> Settings:
        """The settings, of what is `written` in the file (None: read it). Raises UserError naming
        every wrong key.
        """
        layers: list[Path | Mapping[str, Any]] = [
            DEFAULTS,
            self.written() if written is None else written,
        ]
        return check(Settings, read_layers(layers, self.settings), self.where)

    @property
    def where(self) -> str:
        """The file and the settings beside it, for messages."""
        files = [DEFAULTS.name, *([self.path.name] if self.path else [])]
        return " + ".join(files + self.settings)
