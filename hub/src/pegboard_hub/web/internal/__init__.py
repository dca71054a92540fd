"""The internal door: what the operator's own process, and what runs beside the hub, ask of it."""
