"""What a changed file may do to the configuration in force, and what it may not."""

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from mtmh.errors import UserError
from serving.router.configuration import Configuration
from serving.router.metrics import Metrics
from serving.router.settings import Source

GOOD = {
    "listen": {"host": "0.0.0.0"},
    "limits": {"k": 100},
    "experiment": {"salt": "s1", "arms": [{"name": "control"}, {"name": "relevant", "alpha": 0}]},
}


class Files:
    """A configuration over a file and a token's file."""

    def __init__(self, folder: Path) -> None:
        self.path, self.token = folder / "router.yaml", folder / "token"
        self.token.write_text("first\n")
        self.good = yaml.safe_dump(
            {**GOOD, "auth": {"token_file": str(self.token)}}, sort_keys=False
        )
        self.path.write_text(self.good)
        self.metrics = Metrics()
        self.configuration = Configuration(Source(self.path), self.metrics)

    def replace(self, content: bytes | str, path: Path | None = None) -> None:
        """A new file in place of the old one."""
        path = path or self.path
        draft = path.with_name("draft")
        draft.write_bytes(content if isinstance(content, bytes) else content.encode())
        draft.replace(path)

    def look(self, times: int = 2) -> None:
        """A change is taken at the second look after it."""
        for _ in range(times):
            self.configuration.look()

    def count(self, outcome: str) -> float:
        return (
            self.metrics.registry.get_sample_value(
                "mtmh_config_reloads_total", {"outcome": outcome}
            )
            or 0.0
        )

    @property
    def is_refused(self) -> bool:
        return self.metrics.registry.get_sample_value("mtmh_config_refused") == 1.0


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def arms(*fields: str) -> str:
    """Sections as they were, with other arms."""
    return f"limits: {{k: 100}}\nexperiment: {{salt: s1, arms: [{', '.join(fields)}]}}\n"


def bomb() -> str:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [
        f"{name}: &{name} [{', '.join([f'*{below}'] * 9)}]"
        for below, name in zip("abcdef", "bcdefg", strict=True)
    ]
    return "\n".join(lines)


TEXTS: dict[str, bytes | str] = {
    "empty": "",
    "comments": "# nothing\n---\n",
    "a list": "- 1\n",
    "not YAML": "experiment: {arms: [",
    "binary": bytes(range(256)),
    "NUL bytes, as a disk leaves them": b"\0" * 4096,
    "too large": "#" * 70_000,
    "nested": "limits: " + "[" * 30_000,
    "nested in one line each": "limits:\n" + "".join(" " * n + "- \n" for n in range(1, 300)),
    "a key that is there twice": "limits: {k: 100}\nauth: {token_file: null}\nlimits: {k: 200}\n",
    "an alias bomb": bomb(),
    "an alias that holds itself": "limits: &a [*a]\n",
    "a date that is none": "limits: {k: 2026-13-45}\n",
    "a number that is none": "limits: {k: !!int ''}\n",
    "a time that is none": "limits: {k: !!timestamp soon}\n",
    "a tag of Python": "limits: !!python/object/apply:os.system ['true']\n",
    "keys that are numbers": "1: 2\n",
    "an unknown key": "limits: {kk: 5}\n",
    "a token file that is gone": "auth: {token_file: /nowhere/token}\n",
    "a token file that no file can be": 'auth: {token_file: "a\\0b"}\n',
}
TAKEN_AWAY = {
    "without auth, on loopback": "listen: {host: 127.0.0.1}\n",
    "auth is null": "auth: {token_file: null}\nlisten: {host: 127.0.0.1}\n",
    "half written: no arms": "experiment:\n  salt: s1\n",
    "half written: nothing in the experiment": "experiment:\n",
    "half written: no experiment": "limits: {k: 100}\n",
    "half written: no limits": "experiment: {salt: s1, arms: null}\n",
}
VALUES = {
    "k_ann of 3e9": arms("{name: a, k_ann: 3000000000}"),
    "weight of 1e308": arms("{name: a, weight: 1.0e+308}", "{name: b, weight: 1.0e+308}"),
    "weight without an end": arms("{name: a, weight: .inf}"),
    "alpha that is no number": arms("{name: a, alpha: .nan}"),
    "too many arms": arms(*(f"{{name: a{number}}}" for number in range(101))),
    "an arm called none": arms("{name: none}", "{name: b}"),
    "an arm called None": arms("{name: 'None'}", "{name: b}"),
    "a name without an end": arms(f"{{name: {'a' * 65}}}"),
    "a name that turns the text round": arms('{name: "a\\u202eb"}'),
    "a name of two lines": arms('{name: "a\\nb"}'),
    "1 ms to answer in": "limits: {deadline_ms: 1}\n",
    "an hour to answer in": "limits: {deadline_ms: 3600000}\n",
    "nobody let in": "limits: {in_flight: 0}\n",
    "everybody let in": "limits: {in_flight: 1000000000}\n",
    "bodies without an end": "limits: {body_kb: 1000000000}\n",
    "a wait without an end": "limits: {body_seconds: .inf}\n",
}


@pytest.mark.parametrize("text", [*TEXTS.values(), *TAKEN_AWAY.values()], ids=[*TEXTS, *TAKEN_AWAY])
def test_a_file_that_is_wrong_or_says_less_changes_nothing(
    files: Files, text: bytes | str, caplog: pytest.LogCaptureFixture
) -> None:
    in_force = files.configuration.in_force
    files.replace(text)
    files.look(5)
    assert files.configuration.in_force is in_force
    assert (files.count("refused"), files.count("taken"), files.is_refused) == (1, 0, True)
    assert [record.levelno for record in caplog.records] == [
        logging.ERROR
    ]  # once, not at every look
    assert len(caplog.records[0].fields["why"]) < 3000
    files.replace(files.good)
    files.look()
    assert (files.count("taken"), files.is_refused) == (1, False)
    assert files.configuration.in_force == in_force


@pytest.mark.parametrize("text", VALUES.values(), ids=VALUES)
def test_values_have_bounds(files: Files, text: str) -> None:
    """The rest of the file stays, so that the value alone is what is wrong."""
    in_force = files.configuration.in_force
    files.replace(yaml.safe_dump({**yaml.safe_load(files.good), **yaml.safe_load(text)}))
    files.look(3)
    assert files.configuration.in_force is in_force
    assert (files.count("refused"), files.is_refused) == (1, True)


def gone(path: Path) -> None:
    path.unlink()


def folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def circle(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


@pytest.mark.parametrize("spoil", [gone, folder, pipe, circle])
@pytest.mark.parametrize("name", ["path", "token"])
def test_what_is_no_file_changes_nothing(
    files: Files, spoil: Callable[[Path], None], name: str
) -> None:
    in_force = files.configuration.in_force
    spoil(getattr(files, name))
    files.look(4)
    assert files.configuration.in_force is in_force
    assert (files.count("refused"), files.is_refused) == (1, True)


def test_the_same_file_back_in_its_place_is_taken(files: Files) -> None:
    aside = files.path.with_name("aside")
    files.path.rename(aside)
    files.look(3)
    assert files.is_refused
    aside.rename(files.path)
    files.look(3)
    assert (files.count("refused"), files.is_refused) == (1, False)


def test_a_file_that_still_grows_is_not_read_yet(files: Files) -> None:
    with files.path.open("w") as file:
        for line in files.good.replace("k: 100", "k: 50").splitlines(keepends=True):
            file.write(line)
            file.flush()
            files.look(1)
    assert (files.count("refused"), files.configuration.in_force.settings.limits.k) == (0, 100)
    files.look(2)
    assert (files.count("taken"), files.configuration.in_force.settings.limits.k) == (1, 50)


def test_what_is_read_once_stays_and_the_rest_is_taken(files: Files) -> None:
    files.replace(files.good.replace("host: 0.0.0.0", "host: 127.0.0.1").replace("k: 100", "k: 50"))
    files.look()
    settings = files.configuration.in_force.settings
    assert (settings.listen.host, settings.limits.k) == ("0.0.0.0", 50)
    assert files.configuration.in_force.tokens == {b"first": ""}


def test_an_experiment_ends_when_the_file_says_so(files: Files) -> None:
    content = yaml.safe_load(files.good) | {"experiment": {"arms": None}}
    files.replace(yaml.safe_dump(content))
    files.look()
    assert files.configuration.in_force.settings.experiment.arms is None
    assert files.count("taken") == 1


def test_a_version_that_is_not_in_the_store_is_waited_for_not_taken(files: Files) -> None:
    content = yaml.safe_load(files.good) | {
        "experiment": {"arms": [{"name": "a", "version": "99"}]}
    }
    files.replace(yaml.safe_dump(content))
    files.look()
    assert (files.count("pending"), files.count("taken"), files.count("refused")) == (1, 0, 0)


def test_two_tokens_are_let_in_while_callers_change_over(files: Files) -> None:
    for text, tokens in (
        ("first\n\n  second \n", {b"first": "", b"second": ""}),
        ("second\r\n", {b"second": ""}),
    ):
        files.replace(text, files.token)
        files.look()
        assert files.configuration.in_force.tokens == tokens


@pytest.mark.parametrize(
    "text", ["", " \n\n", "a\nb\nc\n", b"\0" * 64, "sch\u00f6n\n", "a" * 3_000_000, b"\xff\xfe"]
)
def test_a_token_file_without_a_token_keeps_the_last_one(files: Files, text: bytes | str) -> None:
    files.replace(text, files.token)
    files.look(4)
    assert files.configuration.in_force.tokens == {b"first": ""}
    assert (files.count("refused"), files.is_refused) == (1, True)


def test_a_token_is_changed_while_the_configuration_is_wrong(files: Files) -> None:
    """A token that leaked must go, whatever else is broken."""
    files.replace("limits: {kk: 1}\n")
    files.look()
    files.replace("second\n", files.token)
    files.look()
    assert files.configuration.in_force.tokens == {b"second": ""}
    assert files.is_refused  # the file still is


def test_a_router_begins_to_ask_for_a_token_without_a_restart(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first")
    (tmp_path / "router.yaml").write_text("limits: {k: 100}\n")
    configuration = Configuration(Source(tmp_path / "router.yaml"), Metrics())
    assert configuration.in_force.tokens is None
    (tmp_path / "router.yaml").write_text(
        f"limits: {{k: 100}}\nauth: {{token_file: {tmp_path / 'token'}}}\n"
    )
    for _ in range(3):
        configuration.look()
    assert configuration.in_force.tokens == {b"first": ""}


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ("triton.poll_seconds=0", "triton.poll_seconds"),
        ("triton.poll_seconds=1e9", "triton.poll_seconds"),
        ("triton.drain_seconds=.nan", "triton.drain_seconds"),
        ("triton.drain_seconds=1e9", "triton.drain_seconds"),
        ("triton.load_seconds=.inf", "triton.load_seconds"),
        ("features.threads=100000", "features.threads"),
        ("features.timeout_ms=10000000", "features.timeout_ms"),
        ("listen.host=", "listen.host"),
    ],
)
def test_what_is_read_once_has_bounds_too(setting: str, word: str) -> None:
    with pytest.raises(UserError, match=word):
        Source(None, [setting]).read()
