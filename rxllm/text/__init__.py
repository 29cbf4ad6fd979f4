"""Algorithms on text alone."""
