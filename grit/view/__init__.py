"""The cache: an LMDB view of the log, deletable at any time; the only room that knows lmdb."""
