"""What the pods are given fits what they run: the router's configuration, and Redis with its
password.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml

from mtmh_cli import app
from serving.router.settings import Source

BASE = Path(__file__).parents[2] / "k8s" / "base"
PASSWORD = "b6c5e1a0f3"


def container(file: str) -> Any:
    bodies = yaml.safe_load_all((BASE / file).read_text())
    return next(body for body in bodies if body["kind"] in ("Deployment", "StatefulSet"))["spec"][
        "template"
    ]["spec"]["containers"][0]


def test_the_routers_configuration_is_one_and_fits_its_pod() -> None:
    settings = Source(BASE / "router.yaml").read()
    router = container("router-deployment.yaml")
    ports = {port["name"]: port["containerPort"] for port in router["ports"]}
    assert ports == {"http": settings.listen.port, "grpc": settings.listen.grpc_port}
    assert not settings.listen.is_loopback
    assert not settings.triton.manages_models
    mounts = {mount["mountPath"]: mount.get("readOnly", False) for mount in router["volumeMounts"]}
    assert mounts[str(settings.store)] is True
    assert mounts[str(settings.log.directory)] is False
    assert mounts[str(settings.auth.token_file.parent)] is True
    commands = {
        command.name or str(command.callback.__name__)
        for command in app.registered_commands
        if command.callback
    }
    assert router["command"][:2] == ["mtmh", "route"]
    assert "route" in commands
    assert Path(router["command"][-1]).name == "router.yaml"
    assert str(Path(router["command"][-1]).parent) in mounts


def test_the_readme_makes_every_secret_that_is_referred_to() -> None:
    readme = (BASE.parent / "README.md").read_text()
    for name, keys in yaml.safe_load((BASE.parent / "operator.yaml").read_text())[
        "secrets"
    ].items():
        (line,) = [line for line in readme.splitlines() if f"create secret generic {name} " in line]
        for key in keys:
            assert f"--from-literal={key}=" in line


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """Redis, started by the pod's own command with the pod's own configuration, but for places and
    memory.
    """
    if shutil.which("redis-server") is None:
        message = "no redis-server on the PATH: install it with 'apt-get install -y redis-server'"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = int(probe.getsockname()[1])
    written = (BASE / "redis.conf").read_text()
    assert "dir /data" in written
    (tmp_path / "redis.conf").write_text(
        f"{written.replace('dir /data', f'dir {tmp_path}')}\nport {number}\n"
    )
    shell, options, script = container("redis.yaml")["command"]
    command = [shell, options, script.replace("/etc/redis/", f"{tmp_path}/")]
    server = subprocess.Popen(
        command, env={**os.environ, "REDISCLI_AUTH": PASSWORD}, stdout=subprocess.DEVNULL
    )
    try:
        yield number
    finally:
        server.terminate()
        assert server.wait(timeout=30) == 0


def test_redis_asks_for_the_password_and_keeps_it_out_of_its_arguments(port: int) -> None:
    with redis.Redis(port=port, password=PASSWORD) as client:
        for _ in range(200):
            try:
                client.ping()
                break
            except redis.ConnectionError:
                time.sleep(0.05)
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        told = client.info("server")
    with redis.Redis(port=port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    assert PASSWORD not in Path(f"/proc/{told['process_id']}/cmdline").read_text()


def test_the_probe_answers_only_when_redis_does(port: int) -> None:
    probe = container("redis.yaml")["readinessProbe"]["exec"]["command"]
    command = [*probe[:-1], probe[-1].replace("redis-cli", f"redis-cli -p {port}")]
    environment = {**os.environ, "REDISCLI_AUTH": PASSWORD}
    for _ in range(200):
        if subprocess.run(command, env=environment).returncode == 0:
            break
        time.sleep(0.05)
    else:
        pytest.fail("the probe never succeeded")
    environment["REDISCLI_AUTH"] = "another"
    assert subprocess.run(command, env=environment, stderr=subprocess.DEVNULL).returncode == 1
