"""Names of Feast's projects."""

import hashlib
import re


def project_of(model_name: str, version: str = "") -> str:
    """Feast's project of a registered model, or of one version of it: `mtmh_<data>_<version>`.

    Letters, digits and underscores, as SQLite's table names are made of it. Feast removes a
    project's rows from Redis by the end of their keys: so no project's name may end with another's.
    """
    data = model_name.removeprefix("mtmh-")
    if not re.fullmatch("(?!.*mtmh)[A-Za-z0-9_]+", data):
        digest = hashlib.sha256(data.encode()).hexdigest()[:8]
        data = re.sub("[^A-Za-z0-9]+|mtmh", "", data) + digest
    return "_".join(part for part in ("mtmh", data, version) if part)
