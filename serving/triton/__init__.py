"""Triton: what of a version it runs (`backend`), how that is written (`export`) and where it is
deployed (`store`).
"""
