"""Configuration in layers: YAML files, later ones over earlier ones, then
`section.key=value` settings over all.
"""

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mtmh.errors import UserError

LARGEST = 65_536  # bytes of a configuration file; one with a hundred arms has 10,000
DEEPEST = 20  # sections within sections, and lists within them


def read_layers(
    layers: Sequence[Path | Mapping[str, Any]],
    settings: Sequence[str] = (),
) -> dict[str, Any]:
    """YAML files and sections that are read already, later ones over earlier
    ones, then the settings, unchecked.

    Raises UserError, from an OSError where a file cannot be read.
    """
    # Sections are merged key by key; any other value is replaced as a whole.
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = _overlay(merged, read_sections(layer) if isinstance(layer, Path) else layer)
    for setting in settings:
        merged = _overlay(merged, _parse_setting(setting))
    return merged


def read_sections(path: Path) -> dict[str, Any]:
    """The sections of one YAML file, unchecked. Raises UserError as `read_layers`."""
    raw = read_small(path, LARGEST, f"configuration {path}")
    try:
        text = raw.decode()
        complaint = _complaint(text)
        content: Any = None if complaint else yaml.safe_load(text)
    except Exception as error:  # PyYAML raises whatever a malformed value leads to
        why = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(f"configuration {path} is not YAML: {why}. Mend it there.") from None
    if complaint:
        raise UserError(f"configuration {path}: {complaint}")
    # An empty file says nothing; anything but sections is a mistake.
    if content is not None and not isinstance(content, dict):
        raise UserError(
            f"configuration {path}: expected sections such as 'train:' with keys below, found "
            f"{abbreviated(content)}."
        )
    return content or {}


def read_small(path: Path, most: int, name: str) -> bytes:
    """The bytes of a regular file of `most` bytes or fewer.

    Raises UserError that begins with `name`, from an OSError where the file cannot be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe would wait for its writer
            raise UserError(f"{name} is no regular file: put a file in its place.")
        with path.open("rb") as file:
            content = file.read(most + 1)
    except FileNotFoundError as error:
        # A wrong name is the usual cause, so the message names the files of the folder.
        files = ", ".join(sorted(other.name for other in path.parent.glob("*.yaml"))) or "none"
        why = f"no such file. Of YAML that folder has: {files}."
        raise UserError(f"{name}: {why}") from error
    except OSError as error:
        why = f"{(error.strerror or str(error)).lower()}. Make it a file that can be read."
        raise UserError(f"{name}: {why}") from error
    except ValueError:
        raise UserError(f"{name}: no file can be called that.") from None
    if len(content) > most:
        raise UserError(f"{name} has more than {most:,} bytes, which is the most: make it smaller.")
    return content


def abbreviated(value: Any) -> str:
    """A value as messages show it, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}.. ({len(text):,} characters)"


def _complaint(text: str) -> str | None:
    """What is YAML and no settings: nine lines of aliases stand for more values than a machine can
    hold, thousands of brackets keep the parser busy for minutes, and of a key that is there twice
    the first would be silently dropped.
    """
    # The events of the parser come before it builds anything: aliases and
    # depth are checked on them.
    depth = 0
    for event in yaml.parse(text):
        if isinstance(event, yaml.AliasEvent):
            return f"*{event.anchor} is an alias. Write out what it stands for."
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(
            event, yaml.CollectionEndEvent
        )
        if depth > DEEPEST:
            return "it is nested too deeply: sections have keys, and keys values."
    # The nodes still hold every key, also those that a dictionary would drop.
    nodes = [yaml.compose(text)]
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
            if twice := [key for key in keys if keys.count(key) > 1]:
                return f"{abbreviated(twice[0])} is there twice. Keep one."
            nodes += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value
    return None


def _parse_setting(setting: str) -> dict[str, Any]:
    key, equals, value = setting.partition("=")
    if not equals or not key.strip():
        raise UserError(
            f"setting {setting!r} is not of the form section.key=value; write, say, train.epochs=3."
        )
    try:
        complaint = _complaint(value)
        nested: Any = None if complaint else yaml.safe_load(value)
    except (yaml.YAMLError, ValueError):  # ValueError: 2025-13-45 looks like a date
        raise UserError(
            f"setting {setting!r}: {value!r} is no YAML value; quote it, or close its bracket."
        ) from None
    if complaint:
        raise UserError(f"setting {abbreviated(key)}: {complaint}")
    # a.b.c=1 is {a: {b: {c: 1}}}: built from the inside out.
    for part in reversed(key.strip().split(".")):
        nested = {part: nested}
    return dict(nested)


def _overlay(base: Mapping[str, Any], top: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in top.items():
        below = merged.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            value = _overlay(below, value)
        merged[key] = value
    return merged
