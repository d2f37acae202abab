"""Foundations of every room: compiling, devices, memory, progress, fingerprints."""
