"""Companies' logins for tests: two that others wrote, and a scripted one that can be made to lie."""
