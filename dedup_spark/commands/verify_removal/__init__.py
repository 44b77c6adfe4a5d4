"""`verify-removal`: looks at removable images and their keepers as they are now."""
