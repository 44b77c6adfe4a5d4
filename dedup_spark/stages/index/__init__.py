"""Step 3: representatives are routed to cells; each shard is one FAISS file."""
