"""What runs inside Triton's Python backend.

These files are copied beside each model's weights (see `export`), head.py or preranker.py as
model.py, and with them mtmh/retrieval/scoring.py, the mathematics: they import numpy and faiss, and
each other relatively, and nothing else of this project.
"""
