"""For tools that still ask for this file; the metadata is in setup.cfg."""

from setuptools import setup

setup()
