"""`plan`: what a run would read, compare, take and cost, before it is started."""
