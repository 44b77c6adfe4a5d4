"""What is no step: plan, calibrate, explain, trace, sql, dendrogram, demo, upgrade, repair, verify-removal."""
