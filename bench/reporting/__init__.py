"""The page `docs/performance.md`: its figures, its chart and its words."""
