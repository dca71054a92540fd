"""What an instance tells of itself in numbers: the tables of metrics, the hub's own meter, and the text format."""
