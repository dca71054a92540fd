"""Which joined edges there are, who added them, and what they say of themselves."""
