"""Who is signed in, where, and since when. A session's id is the `sid` of every token that it led to."""
