"""Serving on Kubernetes: a version rolled out to Triton's pods and the routers, and back."""
