"""Rules and words of grit: pure functions of bytes and values, without I/O, clock or randomness."""
