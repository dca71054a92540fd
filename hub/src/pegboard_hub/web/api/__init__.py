"""The rich API, version 1: a file for each subject's routes, and what they share."""
