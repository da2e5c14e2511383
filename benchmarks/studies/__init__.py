"""The papers' tables: what is compared on data, in place of how fast."""
