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

    # Like typeguard's own, it works as @typechecked and as @typechecked(..).
    def unchanged(target: Any = None, **_: Any) -> Any:
        return target if target is not None else unchanged

    check, typeguard.typechecked = typeguard.typechecked, unchanged
    # With None in sys.modules the import fails at once, and Feast goes on without torch.
    without_torch = "torch" not in sys.modules
    if without_torch:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        import feast  # noqa: F401
    finally:
        typeguard.typechecked = check
        if without_torch:
            del sys.modules["torch"]
