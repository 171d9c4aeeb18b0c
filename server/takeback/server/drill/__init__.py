"""`takeback drill`: a rehearsal. A run's calls are made again in a copy of its world, killed at each step, and taken back."""
