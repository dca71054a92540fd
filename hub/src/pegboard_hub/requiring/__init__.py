"""Approvals that the registry requires of a tool, whatever its code says, without a release."""
