"""Configuration of the router: router.yaml, checked as a whole, and read again when it changes."""

import ipaddress
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, model_validator

from mtmh.config import Section, check, read_layers
from mtmh.errors import UserError
from mtmh.experiment.arms import Arms

DEFAULTS = Path(__file__).with_name("router.yaml")
MAX_TRIGGERS, MAX_K, MAX_BATCH = 50, 500, 32  # what the interface declares; a configuration may lower them
MAX_TOKENS, SECRET_BYTES, CONFIGURATION_BYTES = 2, 4096, 1 << 20
AT_START = ("store", "listen", "triton", "features", "log")  # sections that are read once

Port = Annotated[int, Field(ge=1, le=65535)]


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
            ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(self.certificate_file, self.key_file)
        except OSError as error:  # an SSLError is one
            where = f"listen.tls {self.certificate_file}, {self.key_file}"
            raise UserError(
                f"{where}: {error.strerror or error}. Give a certificate in PEM and the key that belongs to it."
            ) from None
        return pair


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Listen(Section):
    """Where the router answers; no gRPC where `grpc_port` is null."""

    host: str = "127.0.0.1"
    port: Port = 8080
    grpc_port: Port | None = 8081
    tls: Tls = Tls()

    @property
    def is_loopback(self) -> bool:
        return is_loopback(self.host)


class Triton(Section):
    """The server behind. With `manages_models` the router loads and unloads its models, else it waits for them.

    The version that was replaced stays loaded for `drain_seconds` at the least: other routers may still ask it.
    """

    url: str = "127.0.0.1:8001"
    manages_models: bool = True
    secret_file: Path | None = None  # opens Triton's management interface; `mtmh serve` makes its own where null
    poll_seconds: Annotated[float, Field(ge=0.05, le=3600.0)] = 1.0
    drain_seconds: Annotated[float, Field(ge=0.0, le=3600.0)] = 3.0
    load_seconds: Annotated[float, Field(ge=1.0, le=3600.0)] = 120.0

    def read_secret(self) -> str | None:
        """The secret in `secret_file`, None where there is no file to read. Raises UserError when it has none."""
        return None if self.secret_file is None else _read_secret(self.secret_file, "triton.secret_file")


class Features(Section):
    """Feast's online store: `directory` null is the store that the version carries."""

    directory: Path | None = None
    timeout_ms: Annotated[int, Field(ge=1, le=60_000)] = 300
    threads: Annotated[int, Field(ge=1, le=64)] = 4


class Limits(Section):
    """What one request may ask, and how many are worked on at once; more are turned away with 429."""

    body_kb: Annotated[int, Field(ge=1, le=16_384)] = 1024
    body_seconds: Annotated[float, Field(ge=0.1, le=300.0)] = 10.0
    triggers: Annotated[int, Field(ge=1, le=MAX_TRIGGERS)] = MAX_TRIGGERS
    k: Annotated[int, Field(ge=1, le=MAX_K)] = MAX_K
    batch: Annotated[int, Field(ge=1, le=MAX_BATCH)] = MAX_BATCH
    deadline_ms: Annotated[int, Field(ge=10, le=60_000)] = 1000
    in_flight: Annotated[int, Field(ge=1, le=4096)] = 64
    connections: Annotated[int, Field(ge=1, le=100_000)] = 2000
    engagement_days: Annotated[int, Field(ge=1, le=36_500)] = 365

    @model_validator(mode="after")
    def _a_batch_fits(self) -> "Limits":
        if self.batch > self.in_flight:
            raise ValueError(f"batch {self.batch} is more than in_flight {self.in_flight}: it would never be let in")
        return self


class Auth(Section):
    """Callers show `Authorization: Bearer <the token in this file>`; null asks nobody, on loopback alone."""

    token_file: Path | None = None


class ExposureLog(Section):
    """Where exposures and engagements are kept (null: nowhere); an answer waits until its exposure is on disk."""

    directory: Path | None = None


class Experiment(Section):
    """Arms and the salt of their assignment: a new salt is a new experiment. Without arms all get the champion."""

    salt: str = ""
    arms: Arms | None = None


class Settings(Section):
    """A whole router."""

    store: Path
    listen: Listen = Listen()
    triton: Triton = Triton()
    features: Features = Features()
    limits: Limits = Limits()
    auth: Auth = Auth()
    log: ExposureLog = ExposureLog()
    experiment: Experiment = Experiment()

    @model_validator(mode="after")
    def _open_on_loopback_only(self) -> "Settings":
        if self.auth.token_file is None and not self.listen.is_loopback:
            raise ValueError(
                f"listen.host {self.listen.host} is not this machine alone: set auth.token_file to a file with a token"
            )
        return self

    def read_tokens(self) -> tuple[bytes, ...]:
        """The tokens of which callers must show one, none where none is asked for: a line each, two while they rotate.

        Raises UserError when the file has none, or more than two.
        """
        path = self.auth.token_file
        if path is None:
            return ()
        lines = _read_secret(path, "auth.token_file").encode().splitlines()
        tokens = tuple(line.strip() for line in lines if line.strip())
        if len(tokens) > MAX_TOKENS:
            raise UserError(
                f"auth.token_file {path} has {len(tokens)} tokens: write one, or two while you rotate them."
            )
        return tokens


def _read_secret(path: Path, setting: str) -> str:
    """What the file holds. Raises UserError when it cannot be read, or holds nothing."""
    try:
        with path.open("rb") as file:
            secret = file.read(SECRET_BYTES + 1).strip().decode("ascii")
    except OSError as error:
        raise UserError(f"{setting} {path}: {error.strerror}. Write the token there, readable to the router.") from None
    except UnicodeDecodeError:
        raise UserError(f"{setting} {path} holds more than ASCII characters: write one made with openssl.") from None
    if len(secret) > SECRET_BYTES:
        raise UserError(f"{setting} {path} is longer than {SECRET_BYTES} bytes: is it the right file?")
    if not secret:
        raise UserError(f"{setting} {path} is empty. Write a token there, say with: openssl rand -hex 32.")
    return secret


@dataclass(frozen=True)
class Source:
    """Where the settings come from: a file over the defaults, then `section.key=value` settings over both."""

    path: Path | None = None
    settings: list[str] = field(default_factory=list)
    secret: str | None = field(default=None, repr=False)  # of Triton's management, from whoever started it

    def read(self) -> Settings:
        """The settings as they stand now. Raises UserError naming every wrong key at once."""
        layers = [DEFAULTS, *([self.path] if self.path else [])]
        where = " + ".join([path.name for path in layers] + self.settings)
        return check(Settings, read_layers(layers, self.settings), where)

    def read_again(self, running: Settings) -> tuple[Settings, list[str]]:
        """What a running router takes over, and the sections that differ and need a restart, which stay as they are.

        Raises UserError when the file is empty (a full disk leaves that), too large, or wrong as a whole with what
        stays; and where it would take the token away: that needs a restart, too.
        """
        if self.path is not None:
            size = self.path.stat().st_size
            if not 0 < size <= CONFIGURATION_BYTES or not self.path.read_text().strip():
                raise UserError(
                    f"{self.path} has {size:,} bytes: write a configuration, of {CONFIGURATION_BYTES:,} at most."
                )
        new = self.read()
        if running.auth.token_file is not None and new.auth.token_file is None:
            raise UserError("auth.token_file is gone: start the router again if callers shall need no token any more.")
        late = [name for name in AT_START if getattr(running, name) != getattr(new, name)]
        sections = {name: getattr(new, name) for name in Settings.model_fields}
        try:
            return Settings(**sections | {name: getattr(running, name) for name in AT_START}), late
        except ValidationError as error:
            raise UserError(f"{self.path}: {error.errors()[0]['msg']}") from None

    def stamp(self, settings: Settings) -> tuple[tuple[int, int] | None, ...]:
        """Changes when the file, or the token's file that `settings` name, does."""
        return tuple(_stamp(path) for path in (self.path, settings.auth.token_file))


def _stamp(path: Path | None) -> tuple[int, int] | None:
    try:
        return None if path is None else ((found := path.stat()).st_mtime_ns, found.st_ino)
    except FileNotFoundError:
        return None
