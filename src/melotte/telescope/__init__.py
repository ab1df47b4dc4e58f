"""What is recorded: surveys, detectors, errors, selection."""
