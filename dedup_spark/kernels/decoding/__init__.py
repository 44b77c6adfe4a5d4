"""From bytes to upright RGB pixels, or the reason why not."""
