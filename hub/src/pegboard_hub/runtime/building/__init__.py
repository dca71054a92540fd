"""Making artifacts of sources: orders claimed from the hub, built in the sandbox, told as they are."""
