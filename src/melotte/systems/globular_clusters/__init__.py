"""Maps of globular clusters' light, and the mass in them: melotte's own system."""
