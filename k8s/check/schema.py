"""Fields and types, by the schemas of Kubernetes."""

from collections.abc import Iterator

from k8s.check.render import Rendered

VERSION = "1.37"


def schemas(rendered: Rendered) -> Iterator[str]:
    """Every object is what its kind's schema says, without a field that it does not know."""
    from kubernetes_validate import SchemaNotFoundError, ValidationError, validate

    for thing in rendered.objects:
        try:
            validate(thing.body, VERSION, strict=True)
        except ValidationError as error:
            yield thing.finding(".".join(map(str, error.path)) or "the object", error.message)
        except SchemaNotFoundError:
            yield thing.finding(
                "kind", f"Kubernetes {VERSION} has no {thing.body['apiVersion']} {thing.kind}"
            )


CHECKS = (schemas,)
