"""Vocabularies of concepts, WordNet, and ImageNet's classes."""
