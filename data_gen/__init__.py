"""Terms and text in, contrastive training pairs out."""
