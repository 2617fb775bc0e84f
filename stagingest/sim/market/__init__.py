"""Prices the imitation serves, generated or replayed.

Imports: errors model.calendar
"""
