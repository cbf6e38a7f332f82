"""Composition: settings, routing between the apps, the command line, health and metrics."""

__version__ = "0.1.0"
