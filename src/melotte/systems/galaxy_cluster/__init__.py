"""Galaxy clusters: masses from galaxies' velocities and projected radii."""
