"""pi-DOC, the networks of Chardin & Bianchini 2021, MNRAS 504, 5656."""
