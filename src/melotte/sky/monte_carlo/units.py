"""Units of clusters: pc, km/s, Msun, Myr, and AU for the orbits of binaries."""

from __future__ import annotations

GRAVITY = 4.30091727e-3
"""G, pc (km/s)^2 / Msun."""

PC_PER_MYR = 1.022712165
"""1 km/s, pc/Myr."""

PC_PER_AU = 4.848136811e-6

LIGHT_SPEED = 299792.458
"""km/s."""
