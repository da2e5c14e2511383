"""The log of exposures and engagements: written so that a power cut loses nothing, compacted, read."""
