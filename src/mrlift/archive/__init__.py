"""A whole archive: many series on the workers of a Dask cluster, a ledger of what became of each.

One process, the client, walks the source, submits one task a series and alone writes the ledger.
Workers read and write the files. Needs the extra "archive".
"""
