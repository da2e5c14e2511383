"""What tests of several rooms share: small worlds, a small log, a live router.

The first import of it sets how many threads OpenMP has, which is read only when torch or Faiss are
loaded: no import of theirs may come before.
"""

import os

# Tiny matrices gain nothing from threads, and on a busy machine threads that wait for each other
# cost tenfold.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
