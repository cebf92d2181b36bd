"""Files that are what they should be: no links, no pipes, nobody else's (spec/wal.md)."""
