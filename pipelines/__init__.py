"""The pipelines that chain the components: definition, local runner, compiler, submitter."""
