//! Fused sampled-softmax losses for two-tower retrieval models.
