"""Tests behind the real front ends, each started here on a loopback port."""
