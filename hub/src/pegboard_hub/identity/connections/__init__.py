"""What a person connected: a client, to one server, from one sign-in; with the codes and tokens it has for it."""
