"""The architectures, one file each, and the table that everything else iterates."""
