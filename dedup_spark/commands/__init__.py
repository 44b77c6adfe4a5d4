"""Commands that are no steps: plan, calibrate, explain, trace, sql, demo, dendrogram, upgrade and others."""
