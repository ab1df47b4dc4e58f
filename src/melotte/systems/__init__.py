"""One module a system: it wires sky, telescope, io and networks together."""
