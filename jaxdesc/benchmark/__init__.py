"""Times of the stages, compared with the least that they could take and with rivals.

All jobs of a table run in one process on the same arrays and take turns, so that a busy machine is
busy for all of them; medians and their ratios are shown. The rivals are PyTorch's.
"""
