"""The formats that data comes in: one reader a file. mtmh/data/importers.py picks the one that
fits.
"""
