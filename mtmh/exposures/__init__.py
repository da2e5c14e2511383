"""The log of exposures and engagements: a power cut loses nothing; compacted, and read."""
