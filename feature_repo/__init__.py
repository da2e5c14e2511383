"""The feature store: entities, views, services, and the places it can live in."""
