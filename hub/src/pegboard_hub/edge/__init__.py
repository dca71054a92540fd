"""Layer 1: Envoy's whole configuration as a pure function of the registry, and the agent beside it."""
