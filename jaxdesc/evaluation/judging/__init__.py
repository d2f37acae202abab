"""Quality of labels of units, from any source, on images that had no part in finding them."""
