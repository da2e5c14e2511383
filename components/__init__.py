"""One Kubeflow component a file, thin: read artifacts, call mtmh, write artifacts."""

import os

from mtmh import __version__

# One image runs every step. Its name must hold "python": kfp's local runner warns about any other.
IMAGE = os.environ.get("MTMH_IMAGE", f"mtmh-python:{__version__}")
