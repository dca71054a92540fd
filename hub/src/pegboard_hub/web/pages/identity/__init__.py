"""Pages of signing in and of what is connected: people at their browsers, clients, sessions."""
