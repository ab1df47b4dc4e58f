"""Star clusters in multi-band images of other galaxies: melotte's own system."""
