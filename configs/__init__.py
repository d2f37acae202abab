"""ml_collections config files."""
