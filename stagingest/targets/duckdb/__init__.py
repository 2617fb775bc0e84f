"""Loading into a DuckDB file.

Imports: errors model system targets targets.batch targets.sql
"""
