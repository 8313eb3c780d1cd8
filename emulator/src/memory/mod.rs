//! Allocations with bounds, initialisation and race shadows.
