"""Photographs in, ranked photographs out: images and geometry, trunk features, systems, the index."""
