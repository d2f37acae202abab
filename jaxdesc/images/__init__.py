"""Image sources, decoding, preprocessing and views."""
