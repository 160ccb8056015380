"""Bring a graph into a plain form: constants as initializers, nothing redundant, every node named."""
