"""The feature store: entities, views, services, and the stores that can hold them.

Importing this package imports Feast, in 2.4 s instead of 9: while Feast loads, typeguard leaves its
classes alone (4.7 s to rewrite them for checks of argument types) and torch is not loaded (2.2 s;
only Feast's tensors need it).
"""

import sys
from typing import Any


def _import_feast() -> None:
    import typeguard

    def unchanged(target: Any = None, **_: Any) -> Any:
        return target if target is not None else unchanged

    check, typeguard.typechecked = typeguard.typechecked, unchanged
    without_torch = "torch" not in sys.modules
    if without_torch:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import feast  # noqa: F401
    finally:
        typeguard.typechecked = check
        if without_torch:
            del sys.modules["torch"]


if "feast" not in sys.modules:
    _import_feast()
