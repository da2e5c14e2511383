"""How the project is served on a cluster: kustomize files, images, and the check of both."""
