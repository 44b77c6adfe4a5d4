"""What other decoders see in the same files, and the files that they are asked about. Nothing here is a test."""
