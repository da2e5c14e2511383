"""Item-to-item retrieval that is both engaging and relevant: multi-task, multi-head (MTMH)."""

import os

__version__ = "0.1.0"

# OpenMP's threads wait for each other by spinning, without end by default: beside another busy process training then
# takes many times as long. Not spinning at all cost about a third of the speed on a quiet machine, and this much
# costs little; single, noisy measurements. It must stand before torch is loaded.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
