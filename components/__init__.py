"""One Kubeflow component a file, thin: read artifacts, call mtmh, write artifacts."""

import os

from mtmh import __version__

# One image runs every step; it knows its own name by this variable
# (k8s/images/pipeline.Dockerfile).
# The name must hold "python": kfp's local runner warns about any other.
IMAGE_VARIABLE = "MTMH_IMAGE"
IMAGE = os.environ.get(IMAGE_VARIABLE) or f"mtmh-python:{__version__}"
