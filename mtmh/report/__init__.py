"""The page of a run: tables, plots and examples of lists."""
