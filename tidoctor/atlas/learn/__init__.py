"""Learns the atlas from an installed transformers. Development time only."""
