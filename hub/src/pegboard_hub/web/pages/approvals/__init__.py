"""The pages where people say yes or no to a call: what waits, one request, what was decided."""
