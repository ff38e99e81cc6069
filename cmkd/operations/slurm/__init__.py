"""A Slurm cluster as the suite meets it: what it says, the profile's form, and how they fit."""
