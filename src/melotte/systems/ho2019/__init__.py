"""The two networks of Ho et al. 2019 for galaxy clusters, as published."""
