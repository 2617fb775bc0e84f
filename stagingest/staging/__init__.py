"""A staging directory: staged files under a manifest.

Imports: errors model system
"""
