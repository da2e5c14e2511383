"""Step identify: who a run on a cluster is. Never cached: data may have come, and the image may be
another."""

from typing import NamedTuple

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def identify(source: str, settings: str, seed: int) -> NamedTuple(  # type: ignore[valid-type]
    "Identity", [("fingerprint", str), ("code_version", str)]
):
    """Return the fingerprint of the data at `source`, and the version of the code in this image.

    Both are in the key of every cached step. Taken inside the run, they hold for a clone, a retry
    and a recurring run, whoever submitted the pipeline from whatever checkout.
    """
    from components.step import running

    with running("identify"):
        from mtmh.config import DataSettings
        from mtmh.data.prepare import fingerprint
        from mtmh.version_hash import code_version

        data = fingerprint(source, DataSettings.model_validate_json(settings), seed)
        code = code_version()
        print(f"data {data}, code {code}")
        return data, code
