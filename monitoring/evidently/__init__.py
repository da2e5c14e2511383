"""Every day's figures in Evidently: snapshots, bounds, drift, and the dashboard that shows them."""
