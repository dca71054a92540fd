"""The words and the pure decisions that edge, hub and server share. No input or output happens here.

Everything that decides who may do what lives in this package, so that `pegboard check`, the hub's
explanation, the edge's compiled rules and a running server cannot disagree.
"""
