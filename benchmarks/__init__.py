"""Speed and quality on this machine: `mtmh bench NAME` runs benchmarks/NAME.py and keeps results/NAME.json."""
