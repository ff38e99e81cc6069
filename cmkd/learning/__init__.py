"""Learning: losses, objectives, schedules, the frozen teacher, exact checkpoints and one `fit`."""
