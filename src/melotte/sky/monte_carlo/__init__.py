"""Evolution of star clusters over billions of years by Hénon's Monte Carlo method.

Spherical clusters of 1e4 to 1e6 stars: two-body relaxation, stellar evolution, natal kicks,
binaries made by three-body encounters, a galaxy's tide. Needs numba (``melotte[fast]``).

References
----------
Hénon 1971, Ap&SS 14, 151; Stodolkiewicz 1982, Acta Astron. 32, 63 and 1986, Acta Astron. 36, 19;
Joshi, Rasio & Portegies Zwart 2000, ApJ 540, 969.
"""

from __future__ import annotations

from pathlib import Path

from melotte.sky.monte_carlo.compiled_code import drop_stale_code

drop_stale_code(Path(__file__).parent)
