"""From bytes to pixels and vectors on executors: what the steps extract and embed share; no step by itself."""
