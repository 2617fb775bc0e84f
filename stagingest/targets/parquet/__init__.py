"""Loading into a tree of Parquet files, partitioned as Hive does.

Imports: errors model system targets targets.batch
"""
