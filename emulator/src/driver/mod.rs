//! The CUDA driver's C interface.
