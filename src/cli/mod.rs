//! Floor 6: the command line, a client of our own wire.
