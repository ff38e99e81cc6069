"""Published datasets become clips: one manifest, one audit and one array of samples a dataset."""
