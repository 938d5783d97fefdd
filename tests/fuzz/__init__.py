"""Fuzzing by hand: ``python -m tests.fuzz decoder -runs=1000000`` (see __main__)."""
