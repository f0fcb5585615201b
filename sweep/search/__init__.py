"""Points and trials."""
