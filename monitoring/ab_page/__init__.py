"""The A/B report: the verdict and its rule, segments, and one self-contained page."""
