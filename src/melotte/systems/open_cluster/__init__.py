"""Open clusters: age, extinction, distance and [Fe/H] from Gaia members."""
