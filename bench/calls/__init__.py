"""What one tool call costs, through Pegboard and through what stands beside it: real processes, every reply checked."""
