"""What goes wrong under load: the faults, where they are made, and what is counted meanwhile.

`mtmh bench faults` prints the figures; tests/faults asserts that what must be 0 is 0.
"""
