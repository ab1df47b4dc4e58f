"""The three networks of Branco & Ferraz 2023 for open clusters, as published."""
