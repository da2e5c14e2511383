"""Settings as a model checks them: all that is wrong in one error, for people."""

from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from mtmh.errors import UserError
from mtmh.layers import abbreviated

MOST_PROBLEMS = 20  # of a configuration are said one by one
Settings = TypeVar("Settings", bound=BaseModel)


def check(model: type[Settings], content: dict[str, Any], where: str) -> Settings:
    """`content` as `model`. Raises UserError naming every wrong key and value at
    once; `where` is what was read.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        problems = error.errors()
    # All problems at once, so that a file is corrected in one go; a long list ends after some.
    lines = []
    for problem in problems[:MOST_PROBLEMS]:
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            lines.append(f"  {key}: no such setting. {_known_keys(problem['loc'], model)}")
        elif problem["type"] == "value_error":  # a check of ours, over a whole section
            lines.append(f"  {key + ': ' if key else ''}{problem['ctx']['error']}")
        elif problem["type"] == "missing":
            lines.append(f"  {key}: is not there, and has no default. Add it.")
        else:
            value = abbreviated(problem["input"])
            lines.append(f"  {key}: {problem['msg'].lower()}, found {value}")
    if left := len(problems) - len(lines):
        lines.append(f"  and {left:,} more")
    count = f"{len(problems)} errors" if len(problems) > 1 else "1 error"
    raise UserError(f"configuration ({where}) has {count}:\n" + "\n".join(lines))


def _known_keys(location: tuple[int | str, ...], model: type[BaseModel]) -> str:
    from difflib import get_close_matches

    for part in location[:-1]:
        if part in model.model_fields:  # others are places in a list, or keys of a table
            model = _section(model.model_fields[part].annotation)
    # Most wrong keys are misspelled.
    close = get_close_matches(str(location[-1]), list(model.model_fields), n=1)
    return (
        f"Did you mean {close[0]!r}?" if close else f"Known here: {', '.join(model.model_fields)}."
    )


def _section(annotation: Any) -> type[BaseModel]:
    """The section in `Section`, `list[Section]`, `dict[str, Section]` or `Section | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return _section(next(part for part in get_args(annotation) if part not in (str, type(None))))
