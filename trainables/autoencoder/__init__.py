"""Autoencoders that reconstruct images; also variational and contrastive ones."""
