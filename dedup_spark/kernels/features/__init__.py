"""What is computed of decoded pixels: hashes, quality facts, thumbnail, model input."""
