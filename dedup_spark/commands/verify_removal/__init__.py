"""`verify-removal`: checks removable images and their keepers as they are now."""
