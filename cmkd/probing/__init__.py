"""What a trained run has learned, beyond its score: one question a module, answered in numbers."""
