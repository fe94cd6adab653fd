"""Scenes and images become features. Importing does nothing."""
