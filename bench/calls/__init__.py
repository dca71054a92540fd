"""What one tool call costs, through Pegboard and through its rivals: real processes, every reply checked."""
