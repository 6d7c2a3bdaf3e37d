"""Pictures of a folder's runs, for the page and for a paper. One kind is one file."""
