"""Classical methods that networks are measured against."""
