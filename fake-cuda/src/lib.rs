//! A CUDA driver that needs no GPU.
