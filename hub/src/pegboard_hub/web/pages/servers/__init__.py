"""Pages of servers: finding one, what it is, trying its tools, registering one, what changed."""
