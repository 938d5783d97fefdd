"""The tests. See the house rules in docs/design.md for what lies where."""
