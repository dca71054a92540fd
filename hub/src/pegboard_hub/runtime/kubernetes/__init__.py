"""Servers as pods of a Kubernetes cluster: what should be there as pure functions, and what makes it so."""
