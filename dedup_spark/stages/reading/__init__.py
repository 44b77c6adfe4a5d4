"""Bytes to pixels and vectors on executors: what extract and embed share. No step of its own."""
