"""What `kubectl apply` would only say on a cluster, or nobody would: names that lead nowhere, ports
that are closed.

`python -m k8s.check` renders every overlay offline and prints what is wrong. A check is a function
from what was rendered to findings, one line each; tests/k8s shows for every one of them that it can
fail.
"""
