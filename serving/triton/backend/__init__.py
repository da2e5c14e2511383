"""What runs inside Triton's Python backend.

These files are copied beside each model's weights (see `export`), head.py or preranker.py as model.py: they import
numpy and faiss, and each other relatively, and nothing else of this project.
"""
