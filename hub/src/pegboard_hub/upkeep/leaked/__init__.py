"""A key leaked: making it worthless everywhere, at once, whether or not the hub runs."""
