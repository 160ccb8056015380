"""Edits of a graph that users bring along."""
