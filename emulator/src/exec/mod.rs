//! Warps of 32 lanes executing a resolved program.
