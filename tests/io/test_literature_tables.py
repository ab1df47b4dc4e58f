"""Literature values: columns found in any case, values and errors in the parameter's unit."""

import numpy as np
import pytest
from astropy import units
from astropy.table import Table

from melotte.errors import MelotteValueError
from melotte.io.literature_tables import VALUES, column_of, read_literature
from melotte.report.literature import literature_values

UNITS = {"distance": "kpc", "extinction_v": "mag", "log_age": ""}


def test_values_and_errors_are_in_the_parameters_unit(tmp_path):
    path = tmp_path / "known.ecsv"
    Table(
        {
            "Name": ["NGC 1", "NGC 2"],
            "Distance": [1200.0, 800.0] * units.pc,
            "e_distance": [100.0, 50.0],
            "distance_error_upper": [0.2, 0.1] * units.kpc,
            "extinction_v": [0.5, 0.6],
            "log_age": [8.0, 9.0],
        }
    ).write(path)
    table = read_literature(path, "open-cluster", UNITS)
    assert table.units["Distance"] == "kpc"
    first, second = (literature_values(table, "distance")[name][0] for name in ("ngc1", "ngc2"))
    assert (first.value, first.lower, first.upper) == pytest.approx((1.2, 0.1, 0.2))
    assert (second.value, second.lower, second.upper) == pytest.approx((0.8, 0.05, 0.1))
    np.testing.assert_array_equal(table.columns["log_age"], [8.0, 9.0])
    np.testing.assert_array_equal(table.columns["extinction_v"], [0.5, 0.6])


def test_bounds_of_a_table_of_results_are_converted(tmp_path):
    path = tmp_path / "other.ecsv"
    columns = {f"distance_{q}": [at] * units.pc for q, at in ((16, 900.0), (50, 1e3), (84, 1.2e3))}
    Table({"id": ["NGC 1"], **columns}).write(path)
    found = literature_values(read_literature(path, units=UNITS), "distance")["ngc1"][0]
    assert (found.value, found.lower, found.upper) == pytest.approx((1.0, 0.1, 0.2))


def test_numbers_that_stand_for_missing_values_are_unknown(tmp_path, caplog):
    path = tmp_path / "known.ecsv"
    Table(
        {
            "id": ["NGC 1", "NGC 2", "NGC 3"],
            "distance": [1200.0, -99.0, 0.0] * units.pc,
            "log_age": [8.0, -1.0, 9.0],
            "extinction_v": [0.5, -0.1, 0.0],
        }
    ).write(path)
    table = read_literature(path, "open-cluster", UNITS)
    assert set(literature_values(table, "distance")) == {"ngc1"}
    assert set(literature_values(table, "log_age")) == {"ngc1", "ngc3"}
    assert set(literature_values(table, "extinction_v")) == {"ngc1", "ngc2", "ngc3"}
    assert "2 values of distance are not above 0 and count as unknown" in caplog.text


def test_a_unit_that_does_not_convert_is_refused(tmp_path):
    path = tmp_path / "known.ecsv"
    Table({"id": ["a"], "distance": [1.0], "distance_error": [1.0] * units.mag}).write(path)
    with pytest.raises(MelotteValueError, match=r"'distance_error' is in 'mag'.*converts to kpc"):
        read_literature(path, units=UNITS)
    assert column_of(read_literature(path), VALUES, "distance") == "distance"
    assert column_of(read_literature(path), VALUES, "age") is None
