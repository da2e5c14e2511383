"""Item-to-item retrieval that is both engaging and relevant: multi-task, multi-head (MTMH)."""

__version__ = "0.1.0"
