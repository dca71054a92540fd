"""Whether servers are well: a prober that looks at them, and what the hub keeps of what it saw."""
