"""A real cluster: what serves in a namespace of its own, and Kubeflow's part where there is no Kubeflow."""
