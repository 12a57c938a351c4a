"""Bodega's programs: a package a service, the chassis and the words they share, and the command line."""
