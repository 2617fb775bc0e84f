"""Loading into a PostgreSQL database.

Imports: errors model system targets targets.batch targets.sql
"""
