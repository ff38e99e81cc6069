"""From clips to what a model sees: filter banks, seeded draws, augmented views, statistics."""
