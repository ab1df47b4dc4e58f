"""What exists: stars, populations, extinction, profiles."""
