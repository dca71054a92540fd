"""Coarse rules as the hub keeps them: versions, who changed what, what a change would come to."""
