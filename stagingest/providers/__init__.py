"""Vendors, each a folder: what can be asked of it, how, and how its answers are read; pure.

Imports: errors model
"""
