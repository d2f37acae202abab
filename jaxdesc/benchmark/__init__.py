"""How long the stages take, beside the least that they could take and beside rivals.

Everything of a table is timed in one process on the same arrays, the sides taking turns, so that a
busy machine is busy for all; what is told are medians and their ratios. The rivals are PyTorch's
and lie with the tests (`tests/reference`): a benchmark with rivals needs a checkout.
"""
