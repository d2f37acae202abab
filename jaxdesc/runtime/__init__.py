"""What every room runs on: compiling, devices, memory, progress, fingerprints."""
