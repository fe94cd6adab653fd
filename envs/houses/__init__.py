"""Procedural houses, written in the formats of the field."""
