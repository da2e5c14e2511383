"""Feast without what it imports and this project has no use for."""

import sys
from typing import Any


def import_feast() -> None:
    """Import Feast in 2.4 s instead of 9; call it before `feature_repo.store` is first imported.

    While Feast loads, typeguard leaves its classes alone (4.7 s to rewrite them for checks of
    argument types) and torch is not loaded (2.2 s; only Feast's tensors need it). Both are as they
    were afterwards.
    """
    if "feast" in sys.modules:
        return
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
