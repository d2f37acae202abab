"""The networks in Flax NNX, and the checkpoints they are read from."""
