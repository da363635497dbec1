"""Networks that predict the angle by which an image was turned."""
