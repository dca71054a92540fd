"""Releases, isolation and the one supervisor that runs hub, Envoy and servers."""
