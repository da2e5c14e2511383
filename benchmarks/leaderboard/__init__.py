"""`mtmh study DATA`: every baseline and the project's own models, tuned alike, in one table."""
