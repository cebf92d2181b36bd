"""The command server of a clone and its worker: warm processes that run the very same commands."""
