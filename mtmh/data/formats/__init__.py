"""The forms that data comes in: one reader a file. mtmh/data/importers.py is the door."""
