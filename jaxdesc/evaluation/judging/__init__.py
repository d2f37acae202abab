"""How good labels of units are, whoever gave them, on images that had no part in finding them."""
