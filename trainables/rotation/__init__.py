"""Networks that say by which angle an image was turned."""
