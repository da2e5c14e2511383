"""Step champion: the version that serves now. Never cached: somebody may have moved the alias."""

from kfp import dsl

from components import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def champion(model_name: str, tracking_uri: str) -> str:
    """Return where the champion's retriever directory lies; empty when `model_name` has no champion
    yet. Fails when it has one whose files cannot be read.
    """
    from components.step import running

    with running("champion"):
        from components.registry import champion_location

        return champion_location(tracking_uri, model_name)
