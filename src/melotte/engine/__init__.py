"""Training, inference, calibration and the files they write; knows no system by name."""
