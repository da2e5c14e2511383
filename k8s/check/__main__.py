"""`python -m k8s.check [OVERLAY...]`: exits with 1 where something is wrong, with 2 where nothing
can be rendered."""

import sys
from pathlib import Path

from k8s.check import network, objects, pods
from k8s.check.render import Rendered, render
from mtmh.errors import UserError

OVERLAYS = Path(__file__).parent.parent / "overlays"
CHECKS = (*objects.CHECKS, *pods.CHECKS, *network.CHECKS)


def findings(rendered: Rendered) -> list[str]:
    """What all checks find, in their order."""
    return [finding for check in CHECKS for finding in check(rendered)]


def main(overlays: list[Path]) -> int:
    """Print the findings of each overlay; returns the exit status."""
    status = 0
    for overlay in overlays:
        try:
            rendered = render(overlay)
        except UserError as error:
            print(error, file=sys.stderr)
            return 2
        problems = findings(rendered)
        fine = (
            f"{overlay.name}: {len(rendered.objects)} objects, {len(CHECKS)} checks: nothing wrong"
        )
        print("\n".join(problems) or fine)
        status = 1 if problems else status
    return status


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]] or sorted(OVERLAYS.iterdir())))
