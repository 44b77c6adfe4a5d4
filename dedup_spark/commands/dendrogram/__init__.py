"""`dedup-spark dendrogram`: the tree of one component as it was cut, its groups at other cuts, and what a cut costs."""
