"""Serving: the package of a version for Triton, the server, and the router in front of it."""
