"""Programs that people sign in with: how they come to be known, and what each may ask for."""
