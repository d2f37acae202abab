"""Oracle of the accuracy against known concepts: sets and loops."""


def accuracy(selected, truth):
    """(top, F1) of one neuron, from its selected and its true concepts."""
    common = len(set(selected) & set(truth))
    precision = common / len(set(selected)) if selected else 0.0
    recall = common / len(set(truth))
    f1 = 2 * precision * recall / (precision + recall) if common else 0.0
    return bool(selected) and selected[0] in truth, f1
