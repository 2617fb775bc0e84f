"""What is asked of the machine: disk, locks, SQLite files, Parquet files, folders, platform.

Imports: errors
"""
