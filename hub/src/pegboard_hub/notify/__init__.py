"""Telling others, over webhooks, that an approval waits, was decided, or ended with nobody knowing how."""
