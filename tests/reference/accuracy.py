"""Oracle of the accuracy against known concepts: sets and loops."""


def accuracy(selected, truth):
    """(top, precision, recall, F1, Jaccard) of one neuron, from its concepts and its own ones."""
    chosen, own = set(selected), set(truth)
    common = len(chosen & own)
    precision = common / len(chosen) if chosen else 0.0
    recall = common / len(own)
    f1 = 2 * precision * recall / (precision + recall) if common else 0.0
    return bool(selected) and selected[0] in own, precision, recall, f1, common / len(chosen | own)
