"""Step 3: it assigns representatives to cells and writes each shard as one FAISS file."""
