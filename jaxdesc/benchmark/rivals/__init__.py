"""PyTorch's ways to do what the library does, for benchmarks and tests; they alone need torch."""
