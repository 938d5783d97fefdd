"""A long run by hand: ``python -m tests.soak --seconds 600`` (see __main__)."""
