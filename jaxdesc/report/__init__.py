"""What people read of a run: its files and its tables."""
