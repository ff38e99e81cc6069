"""What a trained run has learned, beyond its score: one question a module, answered in numbers."""

FORMAT = 3
"""Of the files that `cmkd probe` leaves; raised when what they hold changes."""
