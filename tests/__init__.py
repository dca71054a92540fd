"""Pegboard's tests. A package, not a mere folder: Canaille's wheel brings one of this name, which came first else."""
