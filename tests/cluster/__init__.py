"""On a real cluster: the short form in every test run that has one, the long form by `make cluster-test`."""
