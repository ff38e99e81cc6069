"""What to run: names, recipes and suites, made from configuration alone (no data is read)."""
